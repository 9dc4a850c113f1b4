import { isIP } from 'node:net';

/** Where the stub listens. */
export type GdbAddress = { kind: 'tcp'; host: string; port: number } | { kind: 'unix'; path: string };

const LOOPBACK = '127.0.0.1';

/** `PORT`, `HOST:PORT`, `[IPv6]:PORT` or `unix:PATH`. Port 0 takes any that is free. Throws with what is wanted. */
export function parseAddress(text: string): GdbAddress {
  if (text.startsWith('unix:')) {
    const path = text.slice('unix:'.length);
    if (path === '') throw new Error('unix: the path is empty');
    // sun_path has 108 bytes on Linux and 104 on the BSDs, with a zero at the end.
    if (Buffer.byteLength(path) > 103) throw new Error(`unix: the path has more than 103 bytes: ${path}`);
    return { kind: 'unix', path };
  }
  const match = /^(?:(?:\[([0-9a-fA-F:.]+)\]|([^:[\]]*)):)?(\d{1,5})$/.exec(text);
  if (match === null) throw new Error(`${text}: wanted is PORT, HOST:PORT, [IPv6]:PORT or unix:PATH`);
  const [, v6, name, digits] = match;
  const port = Number(digits);
  if (port > 65535) throw new Error(`${text}: a port is a number from 0 to 65535`);
  return { kind: 'tcp', host: v6 ?? (name === undefined || name === '' ? LOOPBACK : name), port };
}

/** As gdb's `target remote` takes it. */
export function addressText(address: GdbAddress): string {
  if (address.kind === 'unix') return address.path;
  const { host, port } = address;
  return `${isIP(host) === 6 ? `[${host}]` : host}:${port}`;
}

/** Whether only this computer can connect. */
export function isLocal(address: GdbAddress): boolean {
  if (address.kind === 'unix') return true;
  const { host } = address;
  return host === 'localhost' || host === '::1' || (isIP(host) === 4 && host.startsWith('127.'));
}

/** What to say where others can connect: the protocol has no password, and gives away the whole machine. */
export const openWarning =
  'Anybody who reaches this address can read and change the machine through it: the protocol has no password. ' +
  'Better: listen at 127.0.0.1, and reach it through ssh -L.';
