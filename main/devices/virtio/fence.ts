/**
 * A full memory barrier. The guest's drivers and our devices share rings without a lock, and order their
 * accesses by barriers (virtio 1.2, section 2.7.13). JavaScript's plain accesses to shared memory promise no order
 * and Atomics only among themselves, but WebAssembly has the instruction: a module of one function, `atomic.fence`.
 */
const MODULE = new Uint8Array([
  ...[0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0], // \0asm, version 1
  ...[1, 4, 1, 0x60, 0, 0], // types: one, () -> ()
  ...[3, 2, 1, 0], // functions: one of type 0
  ...[7, 9, 1, 5, 0x66, 0x65, 0x6e, 0x63, 0x65, 0, 0], // exports: "fence" is function 0
  ...[10, 7, 1, 5, 0, 0xfe, 0x03, 0x00, 0x0b], // code: no locals; atomic.fence; end
]);

const { exports } = new WebAssembly.Instance(new WebAssembly.Module(MODULE));

/** Everything before it is seen by other threads before anything after it. */
export const fence = exports.fence as () => void;
