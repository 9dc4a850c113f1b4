import { useCallback, useEffect, useRef, useState } from 'react';
import type { FormEvent } from 'react';
import type { Result, VmInfo } from '../../main/service/contract.ts';
import { action } from '../actions.ts';
import { sentence } from '../client.ts';
import type { Glass } from '../glass.ts';
import { lookInto, memoryRows, registerRows, standsStill } from '../glass.ts';
import { ActionButton } from './ActionButton.tsx';
import { useApp } from './context.ts';
import { Icon } from './Icon.tsx';

/** A machine that stands still, opened: registers, the code at RIP, memory, and what makes it stop. */
export function GlassPanel({ vm }: { vm: VmInfo }) {
  const store = useApp();
  const [glass, setGlass] = useState<Glass>();
  const [before, setBefore] = useState<Glass['registers']>();
  const [place, setPlace] = useState('rsp');
  const [problem, setProblem] = useState<string>();
  const still = standsStill(vm);
  const vcpu = vm.stop?.vcpu ?? 0;
  // What the registers are compared with: those of the stop before, not those of a look at other memory.
  const last = useRef<{ stop: VmInfo['stop']; registers: Glass['registers'] }>(undefined);

  const look = useCallback(
    async (isCurrent: () => boolean): Promise<void> => {
      try {
        const seen = await lookInto(store.client, vm.id, vcpu, place);
        if (!isCurrent()) return;
        if (last.current !== undefined && last.current.stop !== vm.stop) setBefore(last.current.registers);
        last.current = { stop: vm.stop, registers: seen.registers };
        setGlass(seen);
        setProblem(undefined);
      } catch (error) {
        if (isCurrent()) setProblem(sentence(error));
      }
    },
    [store, vm.id, vm.stop, vcpu, place],
  );

  useEffect(() => {
    if (!still) return;
    let current = true;
    void look(() => current);
    return () => {
      current = false;
    };
  }, [still, look]);

  const change = (work: () => Promise<unknown>): void => {
    work().then(
      () => (still ? look(() => true) : undefined),
      (error: unknown) => store.alert(sentence(error), vm.config.name),
    );
  };
  const breakAt = (where: string): void =>
    change(() =>
      store.client.request('debug.add', { id: vm.id, breakpoint: { kind: 'execute', place: where } }),
    );
  const remove = (number: number): void =>
    change(() => store.client.request('debug.remove', { id: vm.id, number }));

  return (
    <section className="glass" aria-label="Glass">
      <div className="exits-bar">
        <h2>Glass</h2>
        <p className="glass-stop" role="status" aria-label="Where it stands">
          {still ? (vm.stop?.message ?? '') : 'Pause it to look into it.'}
        </p>
        <div className="console-tools" role="toolbar" aria-label="Glass">
          <ActionButton action={action(vm.state === 'paused' ? 'resume' : 'pause')} iconOnly />
          <ActionButton action={action('step')} iconOnly />
          <ActionButton action={action('step-over')} iconOnly />
          <ActionButton action={action('step-out')} iconOnly />
          <button
            type="button"
            className="button button-icon"
            aria-label="Close the glass"
            title="Close the glass"
            onClick={() => store.prefer({ glass: false })}
          >
            <Icon name="close" />
          </button>
        </div>
      </div>
      {problem !== undefined && <p className="exits-empty">{problem}</p>}
      {glass !== undefined && problem === undefined && (
        <div className={still ? 'glass-body' : 'glass-body glass-old'} aria-busy={!still}>
          <Registers now={glass.registers} before={before} />
          <Code code={glass.code} onBreak={breakAt} onRemove={remove} />
          <div className="glass-side">
            <Breakpoints list={glass.breakpoints} onBreak={breakAt} onRemove={remove} />
            <Memory glass={glass} place={place} onPlace={setPlace} />
          </div>
        </div>
      )}
    </section>
  );
}

function Registers({ now, before }: { now: Glass['registers']; before: Glass['registers'] | undefined }) {
  return (
    <div className="glass-registers" role="region" aria-label="Registers" tabIndex={0}>
      {registerRows(now, before).map(({ name, rows }) => (
        <table key={name}>
          <caption>{name}</caption>
          <tbody>
            {rows.map((row) => (
              <tr key={row.name} className={row.changed ? 'glass-changed' : ''}>
                <th scope="row">{row.name}</th>
                <td>
                  {row.value}
                  {row.changed && <span className="glass-unseen"> changed</span>}
                  {row.fields !== '' && <span className="glass-fields"> {row.fields}</span>}
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      ))}
    </div>
  );
}

interface Changes {
  onBreak(place: string): void;
  onRemove(number: number): void;
}

function Code({ code, onBreak, onRemove }: { code: Result<'inspect.code'> } & Changes) {
  return (
    <div className="glass-code" role="region" aria-label="Code" tabIndex={0}>
      {code.lines.length === 0 && <p className="exits-empty">Nothing is mapped at RIP.</p>}
      <table>
        <caption>Code, {code.size} bits</caption>
        <tbody>
          {code.lines.map((line) => {
            const set = line.breakpoints[0];
            return (
              <tr
                key={line.address}
                className={line.current ? 'glass-current' : ''}
                aria-current={line.current}
              >
                <td>
                  <button
                    type="button"
                    className={set === undefined ? 'glass-mark' : 'glass-mark glass-mark-set'}
                    aria-pressed={set !== undefined}
                    aria-label={`Breakpoint at ${line.address}`}
                    onClick={() => (set === undefined ? onBreak(line.address) : onRemove(set))}
                  />
                </td>
                <th scope="row">{line.address.slice(2)}</th>
                <td className="glass-bytes">{line.bytes}</td>
                <td>{line.text}</td>
                <td className="glass-symbol">{line.symbol ?? ''}</td>
              </tr>
            );
          })}
        </tbody>
      </table>
    </div>
  );
}

/** A field for a place, with what is done with it. */
function PlaceForm({
  label,
  button,
  value = '',
  onPlace,
}: {
  label: string;
  button: string;
  value?: string;
  onPlace(place: string): void;
}) {
  const [text, setText] = useState(value);
  const submit = (event: FormEvent): void => {
    event.preventDefault();
    if (text.trim() !== '') onPlace(text.trim());
  };
  return (
    <form className="glass-form" onSubmit={submit}>
      <input
        type="text"
        aria-label={label}
        title="A number, a register, a symbol, or a sum of those: rsp+16"
        spellCheck={false}
        autoComplete="off"
        value={text}
        onChange={(event) => setText(event.target.value)}
      />
      <button type="submit" className="button">
        {button}
      </button>
    </form>
  );
}

function Memory({ glass, place, onPlace }: { glass: Glass; place: string; onPlace(place: string): void }) {
  return (
    <div role="region" aria-label="Memory" tabIndex={0} className="glass-memory">
      <PlaceForm label="Memory at" button="Show" value={place} onPlace={onPlace} />
      {glass.problem !== undefined && <p className="exits-empty">{glass.problem}</p>}
      <table>
        <caption>Memory{glass.memory?.symbol === undefined ? '' : `: ${glass.memory.symbol}`}</caption>
        <tbody>
          {(glass.memory === undefined ? [] : memoryRows(glass.memory)).map(({ address, hex, text }) => (
            <tr key={address}>
              <th scope="row">{address}</th>
              <td>{hex}</td>
              <td>{text}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function Breakpoints({ list, onBreak, onRemove }: { list: Glass['breakpoints'] } & Changes) {
  return (
    <div role="region" aria-label="Breakpoints" className="glass-breakpoints">
      <PlaceForm label="Break at" button="Break" onPlace={onBreak} />
      {list.length === 0 && <p className="exits-empty">No breakpoints.</p>}
      <ul>
        {list.map(({ number, text, hits }) => (
          <li key={number}>
            <span className="glass-number">{number}</span>
            <code>{text}</code>
            <span className="glass-symbol">{hits === 1 ? '1 hit' : `${hits} hits`}</span>
            <button
              type="button"
              className="button button-icon"
              aria-label={`Remove breakpoint ${number}`}
              title={`Remove breakpoint ${number}`}
              onClick={() => onRemove(number)}
            >
              <Icon name="close" />
            </button>
          </li>
        ))}
      </ul>
    </div>
  );
}
