import { action } from '../actions.ts';
import { ActionButton } from './ActionButton.tsx';
import { useAppState } from './context.ts';

/** The window before there is anything to show. */
export function EmptyState() {
  const loaded = useAppState((state) => state.loaded);
  if (!loaded) {
    return (
      <main className="empty" aria-busy="true">
        <p className="late">
          <span className="late-spinner" aria-hidden="true" /> Connecting…
        </p>
      </main>
    );
  }
  return (
    <main className="empty">
      <img src="./icon.svg" alt="" width="72" height="72" />
      <h1>No virtual machines yet</h1>
      <p>
        Begin with the calculator: it is built in, needs no files, and answers on its serial console. Or boot
        a kernel of your own.
      </p>
      <ActionButton action={action('new')} primary />
    </main>
  );
}
