import { backendChoice } from '../../main/service/contract.ts';
import type { BackendChoice } from '../../main/service/contract.ts';
import { Field } from './Field.tsx';
import { useAppState } from './context.ts';

const names: Record<BackendChoice, string> = {
  auto: 'Automatic: the best that works here',
  emulated: 'Emulated: works everywhere',
  kvm: 'KVM: Linux’s hypervisor',
  nvmm: 'NVMM: the system’s hypervisor',
};

interface Props {
  value: BackendChoice;
  message: string | undefined;
  onChange(backend: BackendChoice): void;
}

/** Which hypervisor runs the machine; those that can't be had here say why. */
export function BackendField({ value, message, onChange }: Props) {
  const reports = useAppState((state) => state.backends);
  const missing = reports.filter((report) => !report.available);
  const reason = missing.find((report) => report.name === value)?.reason;
  return (
    <Field label="Backend" hint={reason} message={message}>
      {(ids) => (
        <select
          {...ids}
          value={value}
          onChange={(event) => onChange(backendChoice.parse(event.target.value))}
        >
          {backendChoice.options.map((choice) => {
            const unavailable = missing.some((report) => report.name === choice);
            return (
              <option key={choice} value={choice} disabled={unavailable && choice !== value}>
                {names[choice]}
                {unavailable ? ' (not available)' : ''}
              </option>
            );
          })}
        </select>
      )}
    </Field>
  );
}
