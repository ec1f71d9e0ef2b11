// Proof of work (NIP-13), against a relay that asks for some.

import { finalizeEvent } from 'nostr-tools/pure'
import { minePow } from 'nostr-tools/nip13'
import { seconds } from '../scene.mjs'
import { Party } from './party.mjs'

export async function mining(url, scene) {
  const author = await Party.connected(url)
  const { difficulty } = scene.properties
  scene.observe('not mined', await author.publish(author.sign(1, 'cheap', [], seconds() - 1)))
  const mined = minePow(
    { kind: 1, content: 'dear', tags: [], created_at: seconds(), pubkey: author.pubkey }, difficulty)
  const { kind, content, tags, created_at } = mined
  scene.observe('mined', await author.publish(finalizeEvent({ kind, content, tags, created_at }, author.secret)))
  scene.observe('stored', (await author.ask({ authors: [author.pubkey] })).events.map(event => event.content))
}
