import { describe, expect, it } from 'vitest';
import { assemble } from '../../../assets/guests/assembler/assembler.ts';
import { AssemblyError } from '../../../assets/guests/assembler/expression.ts';

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

// The wanted bytes are NASM's.
const instructions = [
  { name: 'register', input: 'bits 64\n mov rax, rbx', wanted: '4889d8' },
  { name: 'small immediate', input: 'bits 64\n add ecx, -1', wanted: '83c1ff' },
  { name: 'absolute memory', input: 'bits 64\n mov eax, [0x1000]', wanted: '8b042500100000' },
  { name: 'sized memory', input: 'bits 64\n cmp byte [rsi + rdi*4 - 5], 7', wanted: '807cbefb07' },
  { name: 'shift by cl', input: 'bits 32\n shl dword [ebx], cl', wanted: 'd323' },
  { name: 'load cl', input: 'bits 64\n mov cl, [rbx]', wanted: '8a0b' },
  { name: 'segment', input: 'bits 64\n mov rax, [fs:rax]', wanted: '64488b00' },
  { name: 'string', input: 'bits 64\n rep movsq', wanted: 'f348a5' },
  { name: 'condition alias', input: 'bits 64\n setnz al', wanted: '0f95c0' },
  { name: 'characters', input: "bits 64\n mov eax, 'AB'", wanted: 'b841420000' },
  { name: 'port', input: 'bits 64\n out 0x20 + 1, al', wanted: 'e621' },
  { name: 'control register', input: 'bits 64\n mov rax, cr2', wanted: '0f20d0' },
  { name: '16 bits', input: 'bits 16\n mov ax, [bx + si + 2]', wanted: '8b4002' },
  { name: 'back', input: 'bits 64\nx: nop\n jmp x', wanted: '90ebfd' },
  {
    name: 'forward, near',
    input: 'bits 64\n jz x\n times 200 nop\nx:',
    wanted: `0f84c8000000${'90'.repeat(200)}`,
  },
  { name: 'forward, short', input: 'bits 64\n jz x\n nop\nx:', wanted: '740190' },
  {
    name: 'local labels',
    input: 'bits 64\na: jmp .x\n.x: nop\nb: jmp .x\n.x: jmp a.x',
    wanted: 'eb0090eb00ebfb',
  },
  {
    name: 'data',
    input: "org 0x10\n db 1, 'a,b', 0\n dw $ - 1\n dd -1\n align 4",
    wanted: '01612c62001400ffffffff00',
  },
  { name: 'constants', input: 'x equ (1 << 4) | 3\n dq x * 2', wanted: '2600000000000000' },
  { name: 'comment', input: "db ';' ; not ';'", wanted: '3b' },
];

describe('assembler', () => {
  it.each(instructions)('$name', ({ input, wanted }) => {
    expect(hex(assemble(input).bytes)).toBe(wanted);
  });

  it.each([
    { name: 'unknown instruction', input: '\n frob eax', wanted: 'line 2: frob is not an instruction' },
    { name: 'unknown symbol', input: 'bits 32\n jmp nowhere', wanted: 'line 2: nowhere is not defined' },
    { name: 'defined twice', input: 'a:\na:', wanted: 'line 2: a is defined twice' },
    {
      name: 'no size',
      input: 'bits 64\n inc [rax]',
      wanted: 'line 2: inc: no form of it takes these operands',
    },
    {
      name: 'value too large',
      input: 'bits 64\n mov al, 256',
      wanted: 'line 2: mov: no form of it takes these operands',
    },
    { name: 'bytes after absolute', input: 'absolute 0\n db 1', wanted: 'line 2: memory after `absolute`' },
  ])('refuses: $name', ({ input, wanted }) => {
    expect(() => assemble(input)).toThrow(AssemblyError);
    expect(() => assemble(input)).toThrow(wanted);
  });

  it('knows where memory after `absolute` is', () => {
    const { symbols, bytes } = assemble('x: dd y\n absolute 0x1002\n alignb 4\ny: resw 2\nz:');
    expect([symbols.get('y'), symbols.get('z'), hex(bytes)]).toEqual([0x1004n, 0x1008n, '04100000']);
  });
});
