import { useEffect, useLayoutEffect, useRef, useState } from 'react';
import type { KeyboardEvent } from 'react';
import { accessText, spanText } from '../../main/service/contract.ts';
import type { ExitInfo } from '../../main/service/contract.ts';
import type { ExitRow } from '../exits.ts';

/** Height of a row in CSS pixels; exits.css has the same number. */
const ROW = 22;

/** Rows drawn beyond those in view, so that a quick scroll shows no white. */
const MARGIN = 12;

const COLUMNS = ['Number', 'Time (s)', 'Reason', 'Access', 'Value', 'Device', 'RIP', 'Took'] as const;

interface Props {
  rows: readonly ExitRow[];
  /** The newest row stays in view. */
  following: boolean;
  /** There are older ones, which onOlder fetches. */
  more: boolean;
  empty: string;
  onOlder(): void;
  /** Somebody wants to read: new rows would move away what is read. */
  onHold(): void;
}

/** A table of any length, of which only what is in view is drawn. */
export function ExitList({ rows, following, more, empty, onOlder, onHold }: Props) {
  const frame = useRef<HTMLDivElement>(null);
  const [top, setTop] = useState(0);
  const [height, setHeight] = useState(0);

  useEffect(() => {
    const element = frame.current;
    if (element === null) return;
    const observer = new ResizeObserver(() => setHeight(element.clientHeight));
    observer.observe(element);
    return () => observer.disconnect();
  }, []);

  // What is in view stays there when older rows come in above it; following, the newest is.
  const before = useRef(rows);
  useLayoutEffect(() => {
    const element = frame.current;
    if (element === null) return;
    if (following) element.scrollTop = element.scrollHeight;
    else {
      const first = before.current[0];
      const moved = first === undefined ? -1 : rows.indexOf(first);
      if (moved > 0) element.scrollTop += moved * ROW;
    }
    before.current = rows;
    // The event of that scroll comes a frame later, and what is in view then would be drawn too late.
    setTop(element.scrollTop);
  }, [rows, following, height]);

  const scroll = (): void => {
    const element = frame.current;
    if (element === null) return;
    setTop(element.scrollTop);
    if (element.scrollTop < ROW * 4 && more && !following) onOlder();
  };
  const press = (event: KeyboardEvent): void => {
    if (['ArrowUp', 'PageUp', 'Home'].includes(event.key) && following) onHold();
  };
  const from = Math.max(0, Math.floor(top / ROW) - MARGIN);
  const to = Math.min(rows.length, Math.ceil((top + height) / ROW) + MARGIN);

  return (
    <div className="exits-table" role="table" aria-label="Exits" aria-rowcount={rows.length + 1}>
      <div role="rowgroup">
        <div className="exits-row exits-head" role="row" aria-rowindex={1}>
          {COLUMNS.map((name) => (
            <span key={name} role="columnheader">
              {name}
            </span>
          ))}
        </div>
      </div>
      <div
        ref={frame}
        className="exits-frame"
        role="rowgroup"
        aria-label="Exits, newest last"
        tabIndex={0}
        onScroll={scroll}
        onKeyDown={press}
        onWheel={(event) => event.deltaY < 0 && following && onHold()}
      >
        {rows.length === 0 && (
          <p className="exits-empty" role="status">
            {empty}
          </p>
        )}
        <div className="exits-rows" role="presentation" style={{ height: rows.length * ROW }}>
          {rows.slice(from, to).map((row, offset) => {
            const index = from + offset;
            const place = { top: index * ROW };
            return row.kind === 'gap' ? (
              <div
                key={`gap ${row.before}`}
                className="exits-row exits-gap"
                role="row"
                aria-rowindex={index + 2}
                style={place}
              >
                <span role="cell">Too many to show, up to {row.before}</span>
              </div>
            ) : (
              <ExitLine key={row.exit.number} exit={row.exit} index={index} top={place.top} />
            );
          })}
        </div>
      </div>
    </div>
  );
}

function ExitLine({ exit, index, top }: { exit: ExitInfo; index: number; top: number }) {
  const { number, time, reason, value, device, rip, duration, inPlace, fault, event } = exit;
  const notes = [
    inPlace === true ? 'in place' : duration === undefined ? '' : spanText(duration),
    fault === true ? 'refused' : '',
    event === undefined ? '' : `after ${event.type} 0x${event.vector.toString(16)}`,
  ];
  const cells = [
    ...[String(number), (time / 1e9).toFixed(6), reason, accessText(exit), value ?? '', device ?? '', rip],
    notes.filter((note) => note !== '').join(', '),
  ];
  const look = fault === true || device === 'nobody' ? 'exits-row exits-odd' : 'exits-row';
  return (
    <div className={look} role="row" aria-rowindex={index + 2} style={{ top }}>
      {cells.map((cell, column) => (
        <span key={COLUMNS[column]} role="cell" title={cell}>
          {cell}
        </span>
      ))}
    </div>
  );
}
