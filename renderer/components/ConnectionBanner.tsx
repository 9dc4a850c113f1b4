import { useApp, useAppState } from './context.ts';
import { Icon } from './Icon.tsx';

/** Says that what is shown may be out of date, and why nothing can be done just now. */
export function ConnectionBanner() {
  const store = useApp();
  const status = useAppState((state) => state.status);
  const loaded = useAppState((state) => state.loaded);
  if (status !== 'lost') return null;
  return (
    <div className="connection" role="alert">
      <Icon name="alert" />
      <p>
        <strong>{loaded ? 'Connection lost.' : 'Vitrine can’t be reached.'}</strong>{' '}
        {loaded
          ? 'The machines keep running; trying to connect again…'
          : 'Open the address that “vitrine serve” printed when it started, with its token. Trying again…'}
      </p>
      <button type="button" className="button" onClick={() => store.client.connect()}>
        Try now
      </button>
    </div>
  );
}
