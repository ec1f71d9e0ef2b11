// What browsers and new versions of Node.js have of themselves. To be imported before any client.

import { webcrypto } from 'node:crypto'
import WebSocket from 'ws'

globalThis.crypto ??= webcrypto
// one implementation for all versions of Node.js, so that all of them are tested with the same
globalThis.WebSocket = WebSocket
