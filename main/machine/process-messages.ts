import { MachineError } from './errors.ts';
import { asMachineError, Machine } from './machine.ts';
import type { FromMachine, ToMachine } from './protocol.ts';

/**
 * In the process of a VM: connects the machine to the parent, whether that is Node (fork) or Electron
 * (utilityProcess). It ends with the machine, and when the parent is gone.
 */

/** Electron's utilityProcess has this in place of process.send. */
interface ParentPort {
  postMessage(message: unknown): void;
  on(event: 'message', listener: (event: { data: unknown }) => void): void;
}

/** How long the last messages may take to leave before the process ends anyway, in ms. */
const FAREWELL_MS = 500;

const { parentPort } = process as unknown as { parentPort?: ParentPort };

function send(message: FromMachine): void {
  if (parentPort !== undefined) parentPort.postMessage(message);
  // The parent may be dead before that is known here: killed with messages on their way to it.
  else if (process.connected) process.send?.(message, (error: Error | null) => error && process.exit(0));
}

/** Ends the process once all that was sent has left it. */
function leave(): void {
  setTimeout(() => process.exit(0), FAREWELL_MS).unref();
  if (process.send !== undefined && process.connected) {
    process.send({ kind: 'took', port: 0, position: 0 } satisfies FromMachine, () => process.exit(0));
  } else if (parentPort === undefined) {
    process.exit(0);
  }
}

let machine: Machine | null = null;

async function obey(message: Exclude<ToMachine, { kind: 'input' | 'ack' }>): Promise<FromMachine> {
  const { call } = message;
  if (message.kind === 'start') {
    machine = new Machine(message.config, send, leave);
    await machine.start();
    return { kind: 'reply', call };
  }
  if (message.kind === 'ask') {
    if (machine === null) throw new MachineError('wrong-state', 'The machine has not been started.');
    return { kind: 'reply', call, answer: await machine.answer(message.question, message.params) };
  }
  if (machine === null) {
    if (message.kind === 'powerOff') leave();
  } else {
    await machine[message.kind]();
  }
  return { kind: 'reply', call };
}

function receive(message: ToMachine): void {
  if (message.kind === 'input') {
    machine?.type(message.port, message.data);
  } else if (message.kind === 'ack') {
    machine?.ack(message.port, message.position);
  } else {
    const { call } = message;
    obey(message)
      .then(send)
      .catch((error: unknown) => {
        const { kind, message: words } = asMachineError(error);
        send({ kind: 'reply', call, error: { kind, message: words } });
      });
  }
}

if (parentPort !== undefined) {
  parentPort.on('message', ({ data }) => receive(data as ToMachine));
} else {
  process.on('message', (message) => receive(message as ToMachine));
  process.on('disconnect', () => process.exit(0));
  // It may have been killed before anybody listened here.
  if (!process.connected) process.exit(0);
}
// A terminal's Ctrl-C goes to every process of its group: the parent decides what it means.
process.on('SIGINT', () => undefined);
