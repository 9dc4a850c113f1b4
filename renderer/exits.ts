import type { ExitFilter, ExitInfo, ExitStats } from '../main/service/contract.ts';
import { exitReason } from '../main/service/contract.ts';
import { sentence } from './client.ts';
import type { Client } from './client.ts';

/** How often the tail asks for new exits and for counters, in ms: seen as at once, and few messages. */
const TAIL_MS = 500;
const STATS_MS = 1000;

/** Exits in one answer of the tail: more than anybody reads in half a second. What was between is a gap. */
const TAIL_PAGE = 200;

/** Older ones that are fetched at once, and rows that are kept at most: enough to scroll in, little memory. */
const OLDER_PAGE = 500;
export const ROWS = 5000;

/** A row of the list: an exit, or exits that were too many to show. */
export type ExitRow = { kind: 'exit'; exit: ExitInfo } | { kind: 'gap'; before: number };

export interface ExitView {
  /** Oldest first. */
  rows: readonly ExitRow[];
  stats: ExitStats | undefined;
  /** There may be older ones to fetch. */
  more: boolean;
  /** Why nothing new comes. */
  problem: string | undefined;
}

/** What the filter's fields say, as they were typed. */
export interface FilterText {
  reason: string;
  port: string;
  device: string;
}

export const NO_FILTER: FilterText = { reason: '', port: '', device: '' };

/** The filter of the fields, undefined for none; or a sentence about the port, which alone can be wrong. */
export function parseFilter({ reason, port, device }: FilterText): { filter?: ExitFilter } | string {
  const filter: ExitFilter = {};
  const { data } = exitReason.safeParse(reason);
  if (data !== undefined) filter.reasons = [data];
  if (device.trim() !== '') filter.device = device.trim().slice(0, 80);
  if (port.trim() !== '') {
    const ends = port.split('-').map((end) => end.trim());
    // Ports are written in hexadecimal everywhere; 0x may be left out.
    const [from, to = from] = ends.map((end) =>
      /^(0x)?[0-9a-f]{1,4}$/i.test(end) ? parseInt(end, 16) : NaN,
    );
    if (from === undefined || to === undefined || ends.length > 2 || !(from <= to)) {
      return 'A port such as 3f8, or a range such as 3f8-3ff.';
    }
    filter.ports = { from, to };
  }
  return Object.keys(filter).length === 0 ? {} : { filter };
}

/**
 * The exits of one machine as the window shows them: a tail that asks now and then while it is not held, older ones when
 * they are asked for, and the counters. However fast the guest exits, each turn costs one bounded answer.
 */
export class ExitTail {
  view: ExitView = { rows: [], stats: undefined, more: false, problem: undefined };
  private readonly client: Client;
  private readonly id: string;
  private readonly changed: () => void;
  private filter: ExitFilter | undefined;
  private held = false;
  private on = false;
  /** The number after the newest record that was looked at; undefined before the first look. */
  private seen: number | undefined;
  /** Where older ones begin: what to ask on from. */
  private oldest = 0;
  /** Counts filters: an answer to a question with another one is dropped. */
  private turn = 0;
  private asking = false;
  private fetching = false;
  private closed = false;
  private readonly timers: ReturnType<typeof setInterval>[];

  constructor(client: Client, id: string, changed: () => void) {
    this.client = client;
    this.id = id;
    this.changed = changed;
    this.timers = [
      setInterval(() => void this.look(), TAIL_MS),
      setInterval(() => void this.count(), STATS_MS),
    ];
  }

  /** The machine is on, so that there is something to ask; what was shown stays when it is not. */
  attend(on: boolean): void {
    if (on === this.on) return;
    this.on = on;
    void this.look(true);
    void this.count();
  }

  close(): void {
    for (const timer of this.timers) clearInterval(timer);
    this.closed = true;
    this.turn++;
  }

  /** Stops new ones from coming, or lets them come again. */
  hold(held: boolean): void {
    this.held = held;
    if (!held) void this.look();
  }

  /** Shows others from now on. */
  choose(filter: ExitFilter | undefined): void {
    this.filter = filter;
    this.turn++;
    this.asking = this.fetching = false;
    this.seen = undefined;
    this.show({ rows: [], more: false });
    void this.look(true);
  }

  /** Fetches older ones than those that are shown. */
  async older(): Promise<void> {
    const { turn } = this;
    if (this.fetching || !this.view.more) return;
    this.fetching = true;
    try {
      const page = await this.ask({ from: this.oldest, limit: OLDER_PAGE });
      if (turn !== this.turn) return;
      this.oldest = page.next;
      const rows = page.records.reverse().map((exit): ExitRow => ({ kind: 'exit', exit }));
      // The newest go when there are too many: who reads old ones has held the tail.
      this.show({ rows: [...rows, ...this.view.rows].slice(0, ROWS), more: page.next > page.first });
    } catch (error) {
      if (turn === this.turn) this.show({ problem: sentence(error) });
    } finally {
      if (turn === this.turn) this.fetching = false;
    }
  }

  /** New exits. The first look, and one after another filter, is taken although the tail is held. */
  private async look(first = false): Promise<void> {
    const { turn, seen } = this;
    if (this.asking || !this.reachable || (this.held && !first)) return;
    this.asking = true;
    try {
      const limit = seen === undefined ? OLDER_PAGE : TAIL_PAGE;
      const page = await this.ask({ until: seen, limit });
      if (turn !== this.turn) return;
      // A machine that was started again counts from 0.
      if (seen !== undefined && page.end < seen) return this.choose(this.filter);
      const rows = page.records.reverse().map((exit): ExitRow => ({ kind: 'exit', exit }));
      const reached = seen === undefined || page.next <= seen;
      const gap: ExitRow[] = reached || rows.length === 0 ? [] : [{ kind: 'gap', before: page.next }];
      if (seen === undefined) this.oldest = page.next;
      this.seen = page.end;
      const all = [...this.view.rows, ...gap, ...rows];
      const more = seen === undefined ? page.next > page.first : this.view.more;
      if (all.length > ROWS) this.cut(all);
      else if (rows.length > 0 || this.view.problem !== undefined || seen === undefined) {
        this.show({ rows: all, more, problem: undefined });
      }
    } catch (error) {
      if (turn === this.turn) this.show({ problem: sentence(error) });
    } finally {
      if (turn === this.turn) this.asking = false;
    }
  }

  /** Drops the oldest rows; they can be fetched again. */
  private cut(all: ExitRow[]): void {
    const rows = all.slice(-ROWS);
    const first = rows.find((row) => row.kind === 'exit');
    if (first !== undefined) this.oldest = first.exit.number;
    this.show({ rows, more: true, problem: undefined });
  }

  private async count(): Promise<void> {
    if (!this.reachable) return;
    try {
      const stats = await this.client.request('trace.stats', { id: this.id });
      // Counters are of all exits, whatever the filter is.
      this.show({ stats });
    } catch (error) {
      this.show({ problem: sentence(error) });
    }
  }

  private get reachable(): boolean {
    return this.on && this.client.status === 'connected';
  }

  private ask(more: { from?: number; until?: number | undefined; limit: number }) {
    const { id, filter } = this;
    return this.client.request('trace.query', { id, towards: 'older', filter, ...more });
  }

  private show(change: Partial<ExitView>): void {
    this.view = { ...this.view, ...change };
    if (!this.closed) this.changed();
  }
}
