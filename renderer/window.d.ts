/// <reference types="vite/client" />
import type { Bridge } from './transport.ts';

declare global {
  interface Window {
    /** There in the desktop app only. */
    vitrine?: Bridge;
  }
}
