import type { SnapshotInfo } from '../../main/service/contract.ts';
import { formatBytes, formatTime } from '../format.ts';

/** One snapshot: what it is, the last lines of its console, and its two verbs. */
export function SnapshotRow({
  one,
  ask,
}: {
  one: SnapshotInfo;
  ask(kind: 'restore' | 'delete', one: SnapshotInfo): void;
}) {
  const damaged = one.damaged !== undefined;
  return (
    <article className={one.current ? 'snapshot snapshot-current' : 'snapshot'} aria-label={one.name}>
      <div className="snapshot-head">
        <strong className="snapshot-name">{one.name}</strong>
        {one.current && <span className="snapshot-mark">the machine goes on from here</span>}
        {!damaged && (
          <span className="snapshot-facts">
            {formatTime(one.createdAt)} · {formatBytes(one.stored)} · {one.backend}
          </span>
        )}
        <span className="snapshot-verbs">
          <button
            type="button"
            className="button"
            aria-label={`Restore ${one.name}`}
            disabled={damaged}
            onClick={() => ask('restore', one)}
          >
            Restore
          </button>
          <button
            type="button"
            className="button button-danger"
            aria-label={`Delete ${one.name}`}
            onClick={() => ask('delete', one)}
          >
            Delete
          </button>
        </span>
      </div>
      {damaged ? (
        <p className="snapshot-damaged">{one.damaged}</p>
      ) : (
        one.console.trim() !== '' && <pre className="snapshot-console">{one.console.trim()}</pre>
      )}
    </article>
  );
}
