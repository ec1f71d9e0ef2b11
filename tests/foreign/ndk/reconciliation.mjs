// Set reconciliation (NIP-77): what we have and the relay has not, and the other way round.

import { NDKSync } from '@nostr-dev-kit/sync'
import { matchFilters } from 'nostr-tools'
import { seconds } from '../scene.mjs'
import { Party } from './party.mjs'

// NDK compares what is in its cache; this is the smallest that it takes for one.
class Cache {
  locking = false
  ready = true
  events = new Map()

  query(subscription) {
    return [...this.events.values()].filter(event => matchFilters(subscription.filters, event.rawEvent()))
  }

  async setEvent(event) {
    this.events.set(event.id, event)
  }
}

export async function reconciliation(url, scene) {
  const cacheAdapter = new Cache()
  const author = await Party.connected(url)
  const reader = await Party.connected(url, { options: { cacheAdapter } })
  const { common, missing } = scene.properties
  const start = seconds() - 3_600
  const named = { common: [], theirs: [], ours: [] }
  for (const [group, events] of Object.entries(named)) {
    for (let n = 0; n < (group === 'common' ? common : missing); n++) {
      const name = `${group} ${n}`
      events.push(scene.called(name, await author.sign(1, name, [], start + n % 3_000)))
    }
  }
  await Promise.all([...named.common, ...named.theirs].map(event => author.publish(event)))
  for (const event of [...named.common, ...named.ours]) await cacheAdapter.setEvent(event)

  const sync = new NDKSync(reader.ndk)
  scene.observe('supported', await sync.checkRelaySupport(reader.relay))
  const errors = []
  const { have, need, events } = await sync.sync({ authors: [author.pubkey], kinds: [1] }, {
    onRelayError: (relay, error) => errors.push(error.message),
  })
  if (errors.length > 0) throw new Error(errors.join('; '))
  const identified = ids => scene.names([...ids].map(id => ({ id }))).sort()
  scene.observe('only here', identified(have))
  scene.observe('only there', identified(need))
  scene.observe('fetched', scene.names(events).sort())
}
