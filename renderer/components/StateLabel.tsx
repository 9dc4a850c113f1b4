import type { VmState } from '../../main/service/contract.ts';
import { states } from '../format.ts';
import { Icon } from './Icon.tsx';

/** A machine's state as an icon and a word. */
export function StateLabel({ state }: { state: VmState }) {
  const { icon, label } = states[state];
  return (
    <span className={`state state-${state}`}>
      <Icon name={icon} />
      <span>{label}</span>
    </span>
  );
}
