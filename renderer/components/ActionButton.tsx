import { perform } from '../actions.ts';
import type { Action } from '../actions.ts';
import { spell } from '../keyboard.ts';
import { useApp, useAppState } from './context.ts';
import { Icon } from './Icon.tsx';

interface Props {
  action: Action;
  /** Draws the icon alone; the label stays for screen readers and in the tooltip. */
  iconOnly?: boolean;
  primary?: boolean;
  /** For switches: whether it is on. */
  pressed?: boolean;
  label?: string;
}

/** One click on an action. Unavailable ones keep the focus and say why, so they are not `disabled` outright. */
export function ActionButton({ action, iconOnly, primary, pressed, label = action.label }: Props) {
  const store = useApp();
  const verdict = useAppState(action.when);
  const allowed = verdict === true;
  const key = spell(action.key, action.inConsole ?? false);
  const look = [
    'button',
    iconOnly ? 'button-icon' : '',
    primary ? 'button-primary' : '',
    action.danger ? 'button-danger' : '',
  ];
  return (
    <button
      type="button"
      className={look.filter(Boolean).join(' ')}
      aria-disabled={!allowed}
      aria-pressed={pressed}
      aria-label={label}
      aria-keyshortcuts={action.inConsole ? `Control+Shift+${action.key}` : action.key}
      title={allowed ? `${label} (${key})` : `${label}: ${verdict}`}
      onClick={() => allowed && perform(store, action)}
    >
      <Icon name={action.icon} />
      {!iconOnly && <span className="button-label">{label}</span>}
    </button>
  );
}
