import { useEffect, useMemo, useState } from 'react';
import type { VmInfo } from '../../main/service/contract.ts';
import { action } from '../actions.ts';
import { ExitTail, NO_FILTER, parseFilter } from '../exits.ts';
import type { ExitView, FilterText } from '../exits.ts';
import { download, fileName } from '../format.ts';
import { ActionButton } from './ActionButton.tsx';
import { useApp, useAppState } from './context.ts';
import { ExitCounters } from './ExitCounters.tsx';
import { ExitFilterBar } from './ExitFilterBar.tsx';
import { ExitList } from './ExitList.tsx';
import { Icon } from './Icon.tsx';

const ON: readonly VmInfo['state'][] = ['running', 'paused', 'crashed'];

/** What goes on between a machine and its guest: every exit as it happens, and who is busy. */
export function ExitsPanel({ vm }: { vm: VmInfo }) {
  const store = useApp();
  const held = useAppState((state) => state.exitsHeld);
  const [tail, setTail] = useState<ExitTail>();
  const [view, setView] = useState<ExitView>();
  const [text, setText] = useState<FilterText>(NO_FILTER);
  const on = ON.includes(vm.state);
  const parsed = useMemo(() => parseFilter(text), [text]);

  useEffect(() => {
    const made = new ExitTail(store.client, vm.id, () => setView(made.view));
    setTail(made);
    return () => made.close();
  }, [store, vm.id]);
  useEffect(() => tail?.attend(on), [tail, on]);
  useEffect(() => tail?.hold(held), [tail, held]);
  useEffect(() => {
    if (typeof parsed !== 'string') tail?.choose(parsed.filter);
  }, [tail, parsed]);

  const save = (): void => {
    const exits = (view?.rows ?? []).flatMap((row) =>
      row.kind === 'exit' ? [JSON.stringify(row.exit)] : [],
    );
    download(`${fileName(vm.config.name)}-exits.jsonl`, `${exits.join('\n')}\n`);
  };
  const rows = view?.rows ?? [];

  return (
    <section className="exits" aria-label="Exits">
      <div className="exits-bar">
        <h2>Exits</h2>
        <ExitFilterBar
          text={text}
          problem={typeof parsed === 'string' ? parsed : undefined}
          onChange={setText}
        />
        <div className="console-tools" role="toolbar" aria-label="Exits">
          <ActionButton action={action('hold-exits')} iconOnly pressed={held} />
          <button
            type="button"
            className="button button-icon"
            aria-label="Save the exits that are shown"
            title="Save the exits that are shown, as JSON lines"
            disabled={rows.length === 0}
            onClick={save}
          >
            <Icon name="save" />
          </button>
          <button
            type="button"
            className="button button-icon"
            aria-label="Close the exits"
            title="Close the exits"
            onClick={() => store.prefer({ exits: false })}
          >
            <Icon name="close" />
          </button>
        </div>
      </div>
      <div className="exits-body">
        <ExitList
          rows={rows}
          following={!held}
          more={view?.more ?? false}
          empty={emptyText(on, view, text)}
          onOlder={() => void tail?.older()}
          onHold={() => store.set({ exitsHeld: true })}
        />
        <ExitCounters
          stats={view?.stats}
          onReason={(reason) => setText({ ...NO_FILTER, reason })}
          onDevice={(device) => setText({ ...NO_FILTER, device })}
          onPort={(port) => setText({ ...NO_FILTER, port: port.toString(16) })}
        />
      </div>
    </section>
  );
}

/** Why the list is empty. */
function emptyText(on: boolean, view: ExitView | undefined, text: FilterText): string {
  if (!on) return 'The machine is off. Its exits are kept while it is on.';
  if (view?.problem !== undefined) return view.problem;
  return text === NO_FILTER ? 'No exits yet.' : 'No exit that is kept fits the filter.';
}
