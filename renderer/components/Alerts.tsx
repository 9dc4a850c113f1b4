import { useApp, useAppState } from './context.ts';
import { Icon } from './Icon.tsx';

/** What went wrong, in the service's words, until it is dismissed. */
export function Alerts() {
  const store = useApp();
  const alerts = useAppState((state) => state.alerts);
  const notice = useAppState((state) => state.notice);
  return (
    <div className="alerts">
      {alerts.map(({ id, subject, text }) => (
        <div key={id} className="alert" role="alert">
          <Icon name="alert" />
          <p>
            {subject && <strong>{subject}: </strong>}
            {text}
          </p>
          <button
            type="button"
            className="button button-icon"
            aria-label="Dismiss"
            title="Dismiss"
            onClick={() => store.dismiss(id)}
          >
            <Icon name="close" />
          </button>
        </div>
      ))}
      <div className={notice === undefined ? 'notice notice-none' : 'notice'} role="status">
        {notice}
      </div>
    </div>
  );
}
