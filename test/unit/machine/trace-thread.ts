import { workerData } from 'node:worker_threads';
import { ExitTraceWriter } from '../../../main/machine/exit-trace.ts';
import { numbered } from './trace-rig.ts';

// Writes so many records, as fast as it can; everything in each follows from its number.
const { trace, records } = workerData as { trace: SharedArrayBuffer; records: number };
const writer = new ExitTraceWriter(trace);
writer.restart();
const write = numbered(writer);
for (let number = 0; number < records; number++) write(number);
