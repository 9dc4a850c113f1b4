import { z } from 'zod';

export const path = z.string().min(1).max(4096);
export const MIB = 2 ** 20;

/** What boots. The calculator is built in; `linux` is the 64-bit bzImage protocol; `elf` multiboot, PVH or plain. */
export const guestConfig = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('calc') }),
  z.object({
    kind: z.literal('linux'),
    kernel: path,
    initrd: path.optional(),
    append: z.string().max(2048).default('console=ttyS0'),
  }),
  z.object({ kind: z.literal('elf'), file: path, append: z.string().max(2048).default('') }),
  z.object({ kind: z.literal('flat'), file: path, address: z.number().int().min(0).max(0xffffffff) }),
]);
export type GuestConfig = z.infer<typeof guestConfig>;
