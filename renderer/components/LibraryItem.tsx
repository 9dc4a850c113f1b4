import type { MouseEvent } from 'react';
import type { VmInfo } from '../../main/service/contract.ts';
import { formatBackend, formatGuest } from '../format.ts';
import { StateLabel } from './StateLabel.tsx';

interface Props {
  vm: VmInfo;
  selected: boolean;
  onSelect(): void;
  onMenu(event: MouseEvent): void;
}

export function LibraryItem({ vm, selected, onSelect, onMenu }: Props) {
  return (
    <li>
      <button
        type="button"
        id={`vm-${vm.id}`}
        className="library-item"
        aria-current={selected}
        tabIndex={selected ? 0 : -1}
        onClick={onSelect}
        onContextMenu={onMenu}
      >
        <span className="library-name">{vm.config.name}</span>
        <StateLabel state={vm.state} />
        <span className="library-kind">
          {vm.damaged ? 'Damaged' : `${formatGuest(vm.config)} · ${formatBackend(vm)}`}
        </span>
      </button>
    </li>
  );
}
