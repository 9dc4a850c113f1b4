import { kinds } from '../draft.ts';
import type { GuestKind } from '../draft.ts';

/** What kind of guest boots: four cards that are radio buttons. */
export function KindPicker({ value, onChange }: { value: GuestKind; onChange(kind: GuestKind): void }) {
  return (
    <fieldset className="kinds">
      <legend>Guest</legend>
      {kinds.map(({ kind, title, text }) => (
        <label key={kind} className="kind">
          <input
            type="radio"
            name="kind"
            value={kind}
            checked={value === kind}
            data-first={value === kind ? true : undefined}
            aria-labelledby={`kind-${kind}-title`}
            aria-describedby={`kind-${kind}`}
            onChange={() => onChange(kind)}
          />
          <span className="kind-title" id={`kind-${kind}-title`}>
            {title}
          </span>
          <span className="kind-text" id={`kind-${kind}`}>
            {text}
          </span>
        </label>
      ))}
    </fieldset>
  );
}
