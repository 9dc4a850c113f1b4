import type { Architecture, Feature, Register, RegisterType } from './registers.ts';
import { featuresOf } from './registers.ts';

/** The documents that gdb reads with qXfer: the target description (GDB manual, appendix G) and its neighbours. */

type Field = readonly [name: string, low: number, high?: number];

/** Bits by the manuals' names (SDM volume 1, 3.4.3 and 10.2.3; volume 3, 2.2.1 and 2.5). */
const flags: Partial<Record<RegisterType, { bytes: 4 | 8; fields: readonly Field[] }>> = {
  eflags: {
    bytes: 4,
    fields: [
      ['CF', 0],
      ['PF', 2],
      ['AF', 4],
      ['ZF', 6],
      ['SF', 7],
      ['TF', 8],
      ['IF', 9],
      ['DF', 10],
      ['OF', 11],
      ['IOPL', 12, 13],
      ['NT', 14],
      ['RF', 16],
      ['VM', 17],
      ['AC', 18],
      ['VIF', 19],
      ['VIP', 20],
      ['ID', 21],
    ],
  },
  mxcsr: {
    bytes: 4,
    fields: [
      ['IE', 0],
      ['DE', 1],
      ['ZE', 2],
      ['OE', 3],
      ['UE', 4],
      ['PE', 5],
      ['DAZ', 6],
      ['IM', 7],
      ['DM', 8],
      ['ZM', 9],
      ['OM', 10],
      ['UM', 11],
      ['PM', 12],
      ['RC', 13, 14],
      ['FZ', 15],
    ],
  },
  cr0: {
    bytes: 8,
    fields: [
      ['PE', 0],
      ['MP', 1],
      ['EM', 2],
      ['TS', 3],
      ['ET', 4],
      ['NE', 5],
      ['WP', 16],
      ['AM', 18],
      ['NW', 29],
      ['CD', 30],
      ['PG', 31],
    ],
  },
  cr4: {
    bytes: 8,
    fields: [
      ['VME', 0],
      ['PVI', 1],
      ['TSD', 2],
      ['DE', 3],
      ['PSE', 4],
      ['PAE', 5],
      ['MCE', 6],
      ['PGE', 7],
      ['PCE', 8],
      ['OSFXSR', 9],
      ['OSXMMEXCPT', 10],
      ['UMIP', 11],
      ['LA57', 12],
      ['VMXE', 13],
      ['SMXE', 14],
      ['FSGSBASE', 16],
      ['PCIDE', 17],
      ['OSXSAVE', 18],
      ['SMEP', 20],
      ['SMAP', 21],
      ['PKE', 22],
    ],
  },
  efer: {
    bytes: 8,
    fields: [
      ['SCE', 0],
      ['LME', 8],
      ['LMA', 10],
      ['NXE', 11],
      ['SVME', 12],
      ['LMSLE', 13],
      ['FFXSR', 14],
    ],
  },
};

const vectors = `
  <vector id="v4f" type="ieee_single" count="4"/>
  <vector id="v2d" type="ieee_double" count="2"/>
  <vector id="v16i8" type="int8" count="16"/>
  <vector id="v8i16" type="int16" count="8"/>
  <vector id="v4i32" type="int32" count="4"/>
  <vector id="v2i64" type="int64" count="2"/>
  <union id="vec128">
    <field name="v4_float" type="v4f"/>
    <field name="v2_double" type="v2d"/>
    <field name="v16_int8" type="v16i8"/>
    <field name="v8_int16" type="v8i16"/>
    <field name="v4_int32" type="v4i32"/>
    <field name="v2_int64" type="v2i64"/>
    <field name="uint128" type="uint128"/>
  </union>`;

function flagsXml(id: RegisterType): string {
  const type = flags[id];
  if (type === undefined) return '';
  const fields = type.fields.map(([name, low, high = low]) => {
    const width = low === high ? '' : ' type="uint32"';
    return `    <field name="${name}" start="${low}" end="${high}"${width}/>`;
  });
  return `\n  <flags id="${id}" size="${type.bytes}">\n${fields.join('\n')}\n  </flags>`;
}

/** The bits of a value by name: those that are set, and fields with their number. */
export function bitNames(type: RegisterType, value: bigint): string {
  const fields = flags[type]?.fields ?? [];
  return fields
    .flatMap(([name, low, high = low]) => {
      const content = BigInt.asUintN(high - low + 1, value >> BigInt(low));
      if (low !== high) return [`${name}=${content}`];
      return content === 1n ? [name] : [];
    })
    .join(' ');
}

/** A pointer type has the architecture's width; a wider register is a number there. */
function typeOf({ type, bits }: Register, pointerBits: number): string {
  const wider = (type === 'code_ptr' || type === 'data_ptr') && bits !== pointerBits;
  return type === 'uint' || wider ? `uint${bits}` : type;
}

function featureXml({ name, registers }: Feature, pointerBits: number): string {
  const types = new Set(registers.map(({ type }) => type));
  const defined = [...types].map((type) => (type === 'vec128' ? vectors : flagsXml(type))).join('');
  const lines = registers.map((register) => {
    const type = typeOf(register, pointerBits);
    // What would fill the screen of `info registers` is in its own group, as gdb does with them.
    const group = { i387_ext: ' group="float"', vec128: ' group="vector"', mxcsr: ' group="vector"' }[type];
    return `  <reg name="${register.name}" bitsize="${register.bits}" type="${type}"${group ?? ''}/>`;
  });
  return ` <feature name="${name}">${defined}\n${lines.join('\n')}\n </feature>`;
}

/** What gdb is told of the registers. */
export function targetXml(architecture: Architecture): string {
  const pointerBits = architecture === 'i386:x86-64' ? 64 : 32;
  const features = featuresOf(architecture).map((feature) => featureXml(feature, pointerBits));
  return `<?xml version="1.0"?>
<!DOCTYPE target SYSTEM "gdb-target.dtd">
<target version="1.0">
 <architecture>${architecture}</architecture>
 <osabi>none</osabi>
${features.join('\n')}
</target>
`;
}

/**
 * gdb's map is of the addresses that a program uses. Those are virtual, so any may be memory: a map of the physical
 * ones would make gdb refuse to look at a kernel. `monitor memory` shows that one.
 */
export const memoryMapXml = `<?xml version="1.0"?>
<!DOCTYPE memory-map PUBLIC "+//IDN gnu.org//DTD GDB Memory Map V1.0//EN" "http://sourceware.org/gdb/gdb-memory-map.dtd">
<memory-map>
 <memory type="ram" start="0x0" length="0xffffffffffffffff"/>
</memory-map>
`;

/** The vCPUs as threads: `extra` is what gdb shows beside each. */
export function threadsXml(threads: readonly { id: number; core: number; extra: string }[]): string {
  const lines = threads.map(
    ({ id, core, extra }) =>
      `<thread id="${id.toString(16)}" core="${core}" name="vCPU ${core}">${extra}</thread>\n`,
  );
  return `<?xml version="1.0"?>\n<threads>\n${lines.join('')}</threads>\n`;
}
