// Computes event ids with nostr-tools: reads a JSON array of unsigned events, prints their ids.

import { createRequire } from 'node:module'
import { readFileSync } from 'node:fs'

const foreign = createRequire(new URL('../foreign/package.json', import.meta.url))
const { getEventHash } = foreign('nostr-tools/pure')

const events = JSON.parse(readFileSync(0, 'utf8'))
process.stdout.write(JSON.stringify(events.map(event => getEventHash(event))))
