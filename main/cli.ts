#!/usr/bin/env node
import { version } from './service/version.ts';

const usage = `Usage: vitrine COMMAND [options]

  run      runs a virtual machine with its serial port on this terminal
  serve    serves the window to a browser, and keeps the VMs
  pause    pauses a VM of a running serve; resume lets it go on
  step     executes an instruction of a paused VM, or runs over a call, or out of a function
  break    makes a VM stop: at an address, an access, a port, an MSR, an exit, an exception
  continue lets a paused VM go on until it stops again
  inspect  shows a paused VM's registers, code, memory, page tables, stack, descriptors, devices
  gdb      makes a VM that a running serve keeps listen for gdb
  trace    shows the exits of a VM that a running serve keeps
  snapshot takes, lists, compares, restores, clones and deletes snapshots of its VMs
  restore  goes back to a snapshot
  switch   moves a paused VM to another backend
  vcpu     saves, compares and loads a vCPU's registers
  lockstep runs a guest on two backends, and shows the first instruction where they differ
  doctor   says which backends work here, and what to do about those that don't

vitrine COMMAND --help says more. vitrine --version prints the version.
`;

const [command, ...rest] = process.argv.slice(2);

/** The machine's process comes up while the command's code is loaded and its options are looked at. */
async function runAhead(options: string[]): Promise<number> {
  const asksForHelp = options.length === 0 || options.some((option) => ['--help', '-h'].includes(option));
  const drop = asksForHelp ? () => undefined : (await import('./machine/launcher.ts')).forkAhead();
  try {
    return await (await import('./service/run.ts')).runCommand(options);
  } finally {
    drop();
  }
}

/** Each command's code is loaded when it is asked for: together they take longer than a small machine's start. */
async function main(): Promise<number> {
  switch (command) {
    case 'run':
      return runAhead(rest);
    case 'serve':
      return (await import('./service/serve-command.ts')).serveCommand(rest);
    case 'gdb':
      return (await import('./service/gdb-command.ts')).gdbCommand(rest);
    case 'snapshot':
    case 'restore':
    case 'switch':
    case 'vcpu':
      return (await import('./service/snapshot-command.ts')).snapshotCommand(command, rest);
    case 'inspect':
    case 'step':
    case 'break':
    case 'continue':
    case 'pause':
    case 'resume':
      return (await import('./service/debug-command.ts')).debugCommand(command, rest);
    case 'lockstep':
      return (await import('./service/lockstep-command.ts')).lockstepCommand(rest);
    case 'trace':
      return (await import('./service/trace-command.ts')).traceCommand(rest);
    case 'doctor':
      return (await import('./service/doctor.ts')).doctorCommand(rest);
    case '--version':
    case '-V':
      process.stdout.write(`vitrine ${version}\n`);
      return 0;
    case '--help':
    case '-h':
    case 'help':
      process.stdout.write(usage);
      return 0;
    default:
      process.stderr.write(
        command === undefined ? usage : `vitrine: ${command}: no such command\n\n${usage}`,
      );
      return 2;
  }
}

process.exitCode = await main();
