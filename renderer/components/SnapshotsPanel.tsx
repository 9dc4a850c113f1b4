import { useCallback, useEffect, useState } from 'react';
import type { VmInfo } from '../../main/service/contract.ts';
import type { SnapshotInfo } from '../../main/service/contract.ts';
import { action } from '../actions.ts';
import { sentence } from '../client.ts';
import { BackendSwitch } from './BackendSwitch.tsx';
import { useApp } from './context.ts';
import { Icon } from './Icon.tsx';
import { SnapshotRow } from './SnapshotRow.tsx';

/** The snapshots of a machine as a tree, and what can be done with them. */
export function SnapshotsPanel({ vm }: { vm: VmInfo }) {
  const store = useApp();
  const [list, setList] = useState<readonly SnapshotInfo[]>([]);
  const [problem, setProblem] = useState<string>();
  const [said, setSaid] = useState('');
  const [name, setName] = useState('');
  const { id } = vm;
  const alive = vm.state === 'running' || vm.state === 'paused';

  const refresh = useCallback(() => {
    store.client.request('snapshot.list', { id }).then(
      (found) => {
        setList(found);
        setProblem(undefined);
      },
      (error: unknown) => setProblem(sentence(error)),
    );
  }, [store, id]);
  useEffect(() => {
    refresh();
    return store.client.on('snapshot.changed', (changed) => {
      if (changed.id === id) refresh();
    });
  }, [store, id, refresh]);

  const take = (): void => {
    void store.run(id, 'Taking a snapshot…', async () => {
      const { snapshot, pausedMs } = await store.client.request('snapshot.take', { id, name });
      setName('');
      setSaid(`“${snapshot.name}” is taken; the guest stood still for ${pausedMs.toFixed(0)} ms.`);
    });
  };
  const ask = (kind: 'restore' | 'delete', one: SnapshotInfo): void => {
    const restore = kind === 'restore';
    const run = (): void => {
      setSaid('');
      void store.run(id, restore ? 'Restoring…' : 'Deleting the snapshot…', () =>
        store.client.request(restore ? 'snapshot.restore' : 'snapshot.delete', { id, snapshot: one.id }),
      );
    };
    const title = restore ? `Go back to “${one.name}”?` : `Delete the snapshot “${one.name}”?`;
    const text = restore
      ? 'The machine goes on from there. What it is now is lost, unless you take a snapshot of it first.'
      : 'It can’t be gone back to any more. Other snapshots stay, with all that they need of it.';
    const question = { title, text, button: restore ? 'Restore' : 'Delete', danger: true, run };
    // A machine that is off has nothing to lose.
    if (restore && !alive) run();
    else store.set({ dialog: { kind: 'confirm', question } });
  };

  return (
    <section className="snapshots" aria-label="Snapshots">
      <div className="exits-bar">
        <h2>Snapshots</h2>
        <form
          className="snapshots-take"
          onSubmit={(event) => {
            event.preventDefault();
            if (alive) take();
          }}
        >
          <input
            type="text"
            aria-label="Name of the snapshot"
            placeholder="Name (or the time)"
            maxLength={80}
            value={name}
            onChange={(event) => setName(event.target.value)}
          />
          <button
            type="submit"
            className="button"
            disabled={!alive}
            title={
              alive
                ? 'The guest runs on while it is written'
                : 'Start the machine first: one that is off has no state'
            }
          >
            Take snapshot
          </button>
        </form>
        <BackendSwitch vm={vm} />
        <div className="console-tools">
          <button
            type="button"
            className="button button-icon"
            aria-label="Close the snapshots"
            title="Close the snapshots"
            onClick={() => action('snapshots').run(store)}
          >
            <Icon name="close" />
          </button>
        </div>
      </div>
      <p className="snapshots-said" role="status">
        {problem ?? said}
      </p>
      <div className="snapshots-list" tabIndex={0} role="region" aria-label="Tree of snapshots">
        {list.length === 0 && problem === undefined && (
          <p className="exits-empty">
            No snapshots yet. One keeps the whole machine: CPU, memory, devices, disks.
          </p>
        )}
        <Branch list={list} parent={null} ask={ask} />
      </div>
    </section>
  );
}

/** The snapshots that were taken after one, each with those after it. */
function Branch({
  list,
  parent,
  ask,
}: {
  list: readonly SnapshotInfo[];
  parent: string | null;
  ask(kind: 'restore' | 'delete', one: SnapshotInfo): void;
}) {
  const children = list.filter((one) => one.parent === parent);
  if (children.length === 0) return null;
  return (
    <ul className="snapshots-branch">
      {children.map((one) => (
        <li key={one.id}>
          <SnapshotRow one={one} ask={ask} />
          <Branch list={list} parent={one.id} ask={ask} />
        </li>
      ))}
    </ul>
  );
}
