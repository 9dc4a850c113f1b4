import { contextBridge, ipcRenderer, webUtils } from 'electron';

/**
 * What the page gets of Electron: a port to the service, and the path of a file that the user picked. The port can't
 * cross the context bridge by itself, so it comes as a message to the window, whose sender is the window.
 */
contextBridge.exposeInMainWorld('vitrine', {
  connect: async (): Promise<void> => {
    const arrived = new Promise<readonly MessagePort[]>((resolve) => {
      ipcRenderer.once('vitrine:port', (event) => resolve(event.ports));
    });
    ipcRenderer.send('vitrine:connect');
    window.postMessage({ vitrine: 'port' }, window.location.origin, [...(await arrived)]);
  },
  pathForFile: (file: File): string => webUtils.getPathForFile(file),
});
