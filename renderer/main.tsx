import { StrictMode } from 'react';
import { createRoot } from 'react-dom/client';
import { z } from 'zod';
import '@xterm/xterm/css/xterm.css';
import './styles/index.css';
import { Client } from './client.ts';
import { App } from './components/App.tsx';
import { StoreContext } from './components/context.ts';
import { ErrorBoundary } from './components/ErrorBoundary.tsx';
import { Store } from './store.ts';
import { portTransport, takeToken, webSocketTransport } from './transport.ts';

// The page's security policy forbids code made from text, which zod would otherwise try.
z.config({ jitless: true });

const transport = window.vitrine
  ? portTransport(window.vitrine)
  : webSocketTransport(window.location, takeToken(window));
const client = new Client(transport);
const store = new Store(client, window.localStorage);
client.connect();

const root = document.getElementById('root');
if (root === null) throw new Error('index.html has no element with the id "root".');
createRoot(root).render(
  <StrictMode>
    <ErrorBoundary>
      <StoreContext value={store}>
        <App />
      </StoreContext>
    </ErrorBoundary>
  </StrictMode>,
);
