import type { VmInfo } from '../../main/service/contract.ts';
import { formatBackend, formatGuest, formatMemory } from '../format.ts';
import { ConsoleView } from './ConsoleView.tsx';
import { StateLabel } from './StateLabel.tsx';
import { Toolbar } from './Toolbar.tsx';

/** One machine: what it is, what can be done with it, and its console. */
export function MachineView({ vm }: { vm: VmInfo }) {
  const facts = [formatGuest(vm.config), formatMemory(vm.config.memory), formatBackend(vm)];
  if (vm.config.disks.length > 0) {
    facts.splice(2, 0, vm.config.disks.length === 1 ? '1 disk' : `${vm.config.disks.length} disks`);
  }
  return (
    <main className="machine">
      <header className="machine-head">
        <div className="machine-title">
          <h1 title={vm.config.name}>{vm.config.name}</h1>
          <p className="machine-facts">
            <StateLabel state={vm.state} />
            {!vm.damaged &&
              facts.map((fact) => (
                <span key={fact} className="fact">
                  {fact}
                </span>
              ))}
          </p>
        </div>
        <Toolbar />
      </header>
      {vm.damaged ? <p className="empty">{vm.message}</p> : <ConsoleView vm={vm} />}
    </main>
  );
}
