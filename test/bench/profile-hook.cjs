/**
 * Loaded into each process and thread of a machine by bench:profile (with --require, which worker threads take too): a
 * vCPU's thread runs under V8's sampling profiler, and leaves its profile in the folder PROFILE_INTO before it says
 * that it has stopped, since the process doesn't last after that.
 */
const { writeFileSync } = process.getBuiltinModule('node:fs');
const { Session } = process.getBuiltinModule('node:inspector');
const { join } = process.getBuiltinModule('node:path');
const { parentPort, threadId } = process.getBuiltinModule('node:worker_threads');

/** Microseconds between samples. */
const INTERVAL = 500;

const folder = process.env.PROFILE_INTO;
// Which thread becomes a vCPU's is known by what it says: those that load modules say nothing of the kind.
if (folder !== undefined && parentPort !== null) {
  const session = new Session();
  session.connect();
  session.post('Profiler.enable');
  session.post('Profiler.setSamplingInterval', { interval: INTERVAL });
  session.post('Profiler.start');
  const post = parentPort.postMessage;
  parentPort.postMessage = function (message, ...more) {
    if (message?.kind === 'stopped') {
      session.post('Profiler.stop', (error, answer) => {
        if (error !== null) throw error;
        writeFileSync(join(folder, `${process.pid}-${threadId}.json`), JSON.stringify(answer.profile));
      });
    }
    return post.call(this, message, ...more);
  };
}
