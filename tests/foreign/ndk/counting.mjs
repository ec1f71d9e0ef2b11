// Counts (NIP-45), with registers that counts of several relays can be joined by.

import { Party } from './party.mjs'

const REACTIONS = 12

export async function counting(url, scene) {
  const author = await Party.connected(url)
  const note = await author.sign(1, 'like me')
  await author.publish(note)
  for (let n = 0; n < REACTIONS; n++) {
    const reaction = await new Party(url).sign(7, '+', [['e', note.id], ['p', author.pubkey]])
    await author.publish(reaction)
  }
  const { relayResults, mergedHll } = await author.count({ kinds: [7], '#e': [note.id] })
  scene.observe('count', relayResults.get(author.relay.url)?.count)
  scene.observe('estimate', mergedHll?.estimate())
}
