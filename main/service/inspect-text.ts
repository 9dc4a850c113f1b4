import { registerText } from '../inspect/device-text.ts';
import type { Result } from './contract.ts';
import type {
  CodeLine,
  WireDescriptor,
  WireDevice,
  WirePageWalk,
  WireRegisterGroup,
  WireSetBreakpoint,
  WireStop,
  WireTable,
} from './inspect-contract.ts';

/** What was looked at, as text for a terminal. */

const digits = (value: string, bits: number): string => value.slice(2).padStart(Math.ceil(bits / 4), '0');

/** Where a vCPU stands and why, with the instruction that is next if it is known. */
export function stopText(stop: WireStop, next?: CodeLine): string {
  const { symbol, ...line } = next ?? {};
  const where = `vCPU ${stop.vcpu} at ${stop.rip}${symbol === undefined ? '' : ` <${symbol}>`}`;
  const said = `${where}: ${stop.message}`;
  return next === undefined ? said : `${said}\n${codeText([line as CodeLine])}`;
}

/** General registers four on a line; what has fields below each other, with the fields that are not zero. */
export function registersText(groups: WireRegisterGroup[]): string {
  const lines: string[] = [];
  for (const { name, registers } of groups) {
    lines.push(`${name}:`);
    let row: string[] = [];
    const flush = (): void => {
      if (row.length > 0) lines.push(`  ${row.join('  ')}`);
      row = [];
    };
    for (const one of registers) {
      const value = `${one.name.padEnd(6)} ${digits(one.value, one.bits)}`;
      if (one.fields === undefined) {
        row.push(value);
        if (row.length === 4) flush();
        continue;
      }
      flush();
      const set = one.fields.filter(
        (field) => field.value !== 0 || (field.name === 'Type' && field.about !== ''),
      );
      const words = set.map((field) => {
        if (field.name === 'Type') return field.about;
        return field.bits === 1 ? field.name : `${field.name}=${field.value}`;
      });
      lines.push(`  ${value}${words.length === 0 ? '' : `  [${words.join(' ')}]`}`);
    }
    flush();
  }
  return lines.join('\n');
}

export function codeText(lines: CodeLine[]): string {
  const out: string[] = [];
  for (const { address, bytes, text, symbol, current, breakpoints } of lines) {
    if (symbol !== undefined && !symbol.includes('+')) out.push(`${symbol}:`);
    const mark = `${current ? '=>' : '  '} ${breakpoints.length > 0 ? '*' : ' '}`;
    out.push(`${mark} ${address}  ${bytes.padEnd(22)}  ${text}`);
  }
  return out.join('\n');
}

/** Sixteen bytes on a line, with what they are as text. */
export function memoryText({ address, symbol, bytes }: Result<'inspect.memory'>): string {
  const data = Buffer.from(bytes, 'base64');
  const lines = symbol === undefined ? [] : [`${symbol}:`];
  for (let at = 0; at < data.length; at += 16) {
    const piece = data.subarray(at, at + 16);
    const hex = Array.from(piece, (byte) => byte.toString(16).padStart(2, '0')).join(' ');
    const text = Array.from(piece, (byte) =>
      byte >= 32 && byte < 127 ? String.fromCharCode(byte) : '.',
    ).join('');
    const where = BigInt.asUintN(64, BigInt(address) + BigInt(at))
      .toString(16)
      .padStart(16, '0');
    lines.push(`${where}  ${hex.padEnd(47)}  ${text}`);
  }
  return data.length === 0 ? `Nothing is mapped at ${address}.` : lines.join('\n');
}

export function walkText(walk: WirePageWalk): string {
  const lines = [
    `${walk.address}: ${walk.paging} paging${walk.paging === 'none' ? '' : `, root ${walk.root}`}`,
  ];
  for (const { name, at, entry, flags, frame } of walk.levels) {
    lines.push(
      `  ${name.padEnd(5)} at ${at.padEnd(12)} ${digits(entry, 64)}  ${flags.includes('P') ? `-> ${frame}  ${flags.join(' ')}` : 'not present'}`,
    );
  }
  if (walk.fault !== undefined) return [...lines, `  page fault: ${walk.fault}`].join('\n');
  const rights = [
    walk.user ? 'user' : 'supervisor',
    walk.writable ? 'read and write' : 'read only',
    walk.executable ? 'execute' : 'no execute',
  ];
  const page = walk.pageSize === 0 ? '' : `, a page of ${walk.pageSize / 1024} KiB`;
  lines.push(`  = ${walk.gpa} guest-physical${page}: ${rights.join(', ')}`);
  if (walk.warning !== undefined) lines.push(`  ${walk.warning}`);
  return lines.join('\n');
}

export function backtraceText({ frames, end }: Result<'inspect.backtrace'>): string {
  const lines = frames.map(({ address, frame, symbol }, n) => {
    return `#${String(n).padEnd(3)} ${address.padEnd(18)}  frame ${frame.padEnd(18)}  ${symbol ?? ''}`.trimEnd();
  });
  return [...lines, end].join('\n');
}

function descriptorText(one: WireDescriptor, table: string): string {
  const index =
    table === 'idt' ? String(one.index).padStart(3) : `0x${one.index.toString(16).padStart(4, '0')}`;
  const rest = [one.type, `DPL ${one.dpl}`, one.present ? '' : 'not present', ...one.flags];
  const where =
    one.offset === undefined
      ? `base ${one.base} limit 0x${(one.limit ?? 0).toString(16)}`
      : `0x${(one.selector ?? 0).toString(16)}:${one.offset}${one.symbol === undefined ? '' : ` <${one.symbol}>`}`;
  const ist = one.ist === undefined || one.ist === 0 ? '' : ` IST${one.ist}`;
  return `  ${index}  ${where}${ist}  ${rest.filter((word) => word !== '').join(', ')}`;
}

export function tableText({ table, base, limit, note, descriptors, fields }: WireTable): string {
  const lines = [
    `${table.toUpperCase()} at ${base}, limit 0x${limit.toString(16)}${note === undefined ? '' : `. ${note}`}`,
  ];
  lines.push(...descriptors.map((one) => descriptorText(one, table)));
  lines.push(...fields.map(({ name, value }) => `  ${name.padEnd(18)} ${value}`));
  return lines.join('\n');
}

export function devicesText(devices: WireDevice[]): string {
  const lines: string[] = [];
  for (const { device, registers } of devices) {
    lines.push(`${device}:`);
    for (const { name, value, about } of registers) {
      lines.push(`  ${name.padEnd(16)} ${registerText(value).padEnd(12)}  ${about}`.trimEnd());
    }
  }
  return lines.join('\n');
}

export function breakpointsText(list: WireSetBreakpoint[]): string {
  if (list.length === 0) return 'No breakpoints.';
  return list
    .map(
      ({ number, text, once, hits }) =>
        `${String(number).padStart(4)}  ${text}${once ? ', once' : ''}, ${hits} hits`,
    )
    .join('\n');
}
