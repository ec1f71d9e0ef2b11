// Counts (NIP-45), with registers that counts of several relays can be joined by.

import { SimplePool } from 'nostr-tools/pool'
import * as nip45 from 'nostr-tools/nip45'
import { Party } from './party.mjs'

const REACTIONS = 12

export async function counting(url, scene) {
  const author = await Party.connected(url)
  const note = author.sign(1, 'like me')
  await author.publish(note)
  const own = nip45.newHll()
  for (let n = 0; n < REACTIONS; n++) {
    const reaction = new Party(url).sign(7, '+', [['e', note.id], ['p', author.pubkey]])
    await author.publish(reaction)
    nip45.feedEvent(own, reaction, nip45.computeOffset(note.id))
  }
  const wanted = { kinds: [7], '#e': [note.id] }
  const { count, hll } = await author.count(wanted)
  scene.observe('count', count)
  scene.observe('two filters', (await author.count(wanted, { ids: [note.id] })).count)
  scene.observe('estimate', hll && nip45.estimateCount(nip45.hllDecode(hll)))
  scene.observe('registers as the client makes them', hll === nip45.hllEncode(own))

  const pool = new SimplePool({ maxWaitForConnection: 20_000 })
  const reactions = await pool.countMany([url], note.id, 'reactions')
  scene.observe('reactions by the pool', reactions.count)
  pool.destroy()
  scene.observe('private', await author.count({ kinds: [1059], '#p': [author.pubkey] }))
}
