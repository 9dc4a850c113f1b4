import { useId } from 'react';
import { exitReason } from '../../main/service/contract.ts';
import { NO_FILTER } from '../exits.ts';
import type { FilterText } from '../exits.ts';
import { Icon } from './Icon.tsx';

interface Props {
  text: FilterText;
  /** What is wrong with the port. */
  problem: string | undefined;
  onChange(text: FilterText): void;
}

/** Which exits are shown: all that fit every field that is filled in. */
export function ExitFilterBar({ text, problem, onChange }: Props) {
  const id = useId();
  const isEmpty = Object.values(text).every((value) => value === '');
  return (
    <div className="exits-filter" role="search" aria-label="Filter the exits">
      <select
        aria-label="Reason"
        value={text.reason}
        onChange={(event) => onChange({ ...text, reason: event.target.value })}
      >
        <option value="">Any reason</option>
        {exitReason.options.map((reason) => (
          <option key={reason}>{reason}</option>
        ))}
      </select>
      <input
        type="text"
        className="mono"
        aria-label="Port, or range of ports"
        aria-invalid={problem !== undefined}
        aria-describedby={problem && `${id}-problem`}
        placeholder="Port"
        spellCheck={false}
        value={text.port}
        onChange={(event) => onChange({ ...text, port: event.target.value })}
      />
      <input
        type="text"
        aria-label="Part of the device's name"
        placeholder="Device"
        spellCheck={false}
        value={text.device}
        onChange={(event) => onChange({ ...text, device: event.target.value })}
      />
      {!isEmpty && (
        <button
          type="button"
          className="button button-icon"
          aria-label="Show all exits"
          title="Show all exits"
          onClick={() => onChange(NO_FILTER)}
        >
          <Icon name="clear" />
        </button>
      )}
      {problem !== undefined && (
        <p className="field-message" id={`${id}-problem`} role="status">
          {problem}
        </p>
      )}
    </div>
  );
}
