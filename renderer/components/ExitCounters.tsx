import type { ExitStats } from '../../main/service/contract.ts';

/** The busiest of each kind: the rest is in the command's tables. */
const SHOWN = 12;

interface Props {
  stats: ExitStats | undefined;
  /** Shows only those in the list. */
  onReason(reason: string): void;
  onDevice(device: string): void;
  onPort(port: number): void;
}

/** Counters and rates, by reason, device and port. A name filters the list by it. */
export function ExitCounters({ stats, onReason, onDevice, onPort }: Props) {
  if (stats === undefined) return null;
  const { exits, reasons, devices, ports } = stats;
  return (
    <div className="exits-counters" tabIndex={0} role="region" aria-label="Counters of the exits">
      <Counters
        title="Reason"
        rows={[
          { name: 'All', total: exits.count, rate: exits.rate },
          ...reasons.map(({ name, count, rate }) => ({
            ...{ name, total: count, rate },
            choose: () => onReason(name),
          })),
        ]}
      />
      <Counters
        title="Device"
        rows={devices.slice(0, SHOWN).map(({ name, reads, writes, rate }) => ({
          ...{ name, total: reads + writes, rate },
          choose: () => onDevice(name),
        }))}
      />
      <Counters
        title="Port"
        rows={ports.slice(0, SHOWN).map(({ port, device, reads, writes, rate }) => ({
          name: `${port.toString(16)} ${device}`,
          ...{ total: reads + writes, rate },
          choose: () => onPort(port),
        }))}
      />
    </div>
  );
}

interface Row {
  name: string;
  total: number;
  rate: number;
  choose?: () => void;
}

function Counters({ title, rows }: { title: string; rows: Row[] }) {
  return (
    <table>
      <thead>
        <tr>
          <th scope="col">{title}</th>
          <th scope="col">Count</th>
          <th scope="col">In 1 s</th>
        </tr>
      </thead>
      <tbody>
        {rows.map(({ name, total, rate, choose }) => (
          <tr key={name}>
            <th scope="row">
              {choose === undefined ? (
                name
              ) : (
                <button type="button" className="exits-choose" title={`Show only ${name}`} onClick={choose}>
                  {name}
                </button>
              )}
            </th>
            <td>{total.toLocaleString('en')}</td>
            <td>{rate < 10 ? rate.toFixed(1) : Math.round(rate).toLocaleString('en')}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}
