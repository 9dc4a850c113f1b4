import { useRef } from 'react';
import type { KeyboardEvent } from 'react';
import type { VmInfo } from '../../main/service/contract.ts';
import { RESTING, action } from '../actions.ts';
import { ActionButton } from './ActionButton.tsx';
import { useApp, useAppState } from './context.ts';
import { ConsoleTerminal } from './ConsoleTerminal.tsx';
import { ExitsPanel } from './ExitsPanel.tsx';
import { GlassPanel } from './GlassPanel.tsx';
import { SnapshotsPanel } from './SnapshotsPanel.tsx';
import { StateBanner } from './StateBanner.tsx';

const PORTS = [0, 1, 2, 3];

/** The serial consoles of a machine: a tab for each port, the terminal, and the machine's state below it. */
export function ConsoleView({ vm }: { vm: VmInfo }) {
  const store = useApp();
  const port = useAppState((state) => state.ports[vm.id] ?? 0);
  const screenReader = useAppState((state) => state.preferences.screenReader);
  const exits = useAppState((state) => state.preferences.exits);
  const glass = useAppState((state) => state.preferences.glass);
  const snapshots = useAppState((state) => state.preferences.snapshots);
  const tabs = useRef<HTMLDivElement>(null);
  const show = (next: number): void => store.set({ ports: { ...store.get().ports, [vm.id]: next } });

  const move = (event: KeyboardEvent): void => {
    const steps: Record<string, number> = { ArrowLeft: port + 3, ArrowRight: port + 1, Home: 0, End: 3 };
    const step = steps[event.key];
    if (step === undefined) return;
    event.preventDefault();
    show(step % PORTS.length);
    tabs.current?.querySelectorAll<HTMLElement>('[role=tab]')[step % PORTS.length]?.focus();
  };

  return (
    <section className={`console console-${vm.state}`} aria-label="Console">
      <div className="console-bar">
        <div className="tabs" role="tablist" aria-label="Serial ports" ref={tabs} onKeyDown={move}>
          {PORTS.map((each) => (
            <button
              key={each}
              type="button"
              role="tab"
              id={`tab-com${each + 1}`}
              className="tab"
              aria-selected={each === port}
              aria-controls="console-panel"
              tabIndex={each === port ? 0 : -1}
              onClick={() => show(each)}
            >
              COM{each + 1}
            </button>
          ))}
        </div>
        <div className="console-tools" role="toolbar" aria-label="Console">
          <ActionButton action={action('search')} iconOnly />
          <ActionButton action={action('copy')} iconOnly />
          <ActionButton action={action('paste')} iconOnly />
          <ActionButton action={action('save-log')} iconOnly />
          <ActionButton action={action('clear')} iconOnly />
          <ActionButton action={action('screen-reader')} iconOnly pressed={screenReader} />
          <ActionButton action={action('exits')} iconOnly pressed={exits} />
          <ActionButton action={action('glass')} iconOnly pressed={glass} />
          <ActionButton action={action('snapshots')} iconOnly pressed={snapshots} />
        </div>
      </div>
      <div
        className="console-panel"
        id="console-panel"
        role="tabpanel"
        aria-labelledby={`tab-com${port + 1}`}
      >
        <ConsoleTerminal
          key={`${vm.id}/${port}`}
          id={vm.id}
          port={port}
          name={vm.config.name}
          idle={RESTING.includes(vm.state)}
        />
      </div>
      {glass && <GlassPanel key={`glass-${vm.id}`} vm={vm} />}
      {exits && <ExitsPanel key={vm.id} vm={vm} />}
      {snapshots && <SnapshotsPanel key={vm.id} vm={vm} />}
      <StateBanner vm={vm} />
    </section>
  );
}
