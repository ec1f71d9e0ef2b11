// Set reconciliation (NIP-77): what we have and the relay has not, and the other way round.

import { nip77 } from 'nostr-tools'
import { seconds, within } from '../scene.mjs'
import { Party } from './party.mjs'

export async function reconciliation(url, scene) {
  const [author, reader] = [await Party.connected(url), await Party.connected(url)]
  const { common, missing } = scene.properties
  const start = seconds() - 3_600
  const write = (name, n) => scene.called(name, author.sign(1, name, [], start + n))
  const named = Object.fromEntries(['common', 'theirs', 'ours'].map(group => [group,
    Array.from({ length: group === 'common' ? common : missing }, (_, n) => write(`${group} ${n}`, n % 3_000))]))
  await Promise.all([...named.common, ...named.theirs].map(event => author.publish(event)))

  const reconcile = async filter => {
    const storage = new nip77.NegentropyStorageVector()
    for (const event of [...named.common, ...named.ours]) storage.insert(event.created_at, event.id)
    storage.seal()
    const [have, need] = [[], []]
    const messages = []
    const ended = new Promise(resolve => {
      const sync = new nip77.NegentropySync(reader.relay, storage, filter, {
        onhave: id => have.push({ id }), onneed: id => need.push({ id }), onclose: resolve,
      })
      // nostr-tools does not tell why a relay has refused
      const handle = sync.subscription.oncustom
      sync.subscription.oncustom = message => {
        messages.push(message)
        handle(message)
      }
      sync.start()
    })
    await within(ended, 'reconciliation')
    return { have, need, refusal: messages.find(([type]) => type === 'NEG-ERR')?.[2] }
  }
  const { have, need } = await reconcile({ authors: [author.pubkey], kinds: [1] })
  scene.observe('only here', scene.names(have).sort())
  scene.observe('only there', scene.names(need).sort())
  const { refusal } = await reconcile({ kinds: [1059], '#p': [author.pubkey] })
  scene.observe('private', { closed: refusal })
}
