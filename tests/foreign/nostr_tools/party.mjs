// Somebody with a key and a connection, as nostr-tools makes them.

import { Relay, useWebSocketImplementation } from 'nostr-tools/relay'
import { finalizeEvent, generateSecretKey, getPublicKey } from 'nostr-tools/pure'
import { seconds, within } from '../scene.mjs'

useWebSocketImplementation(globalThis.WebSocket)

// An OK as [accepted, reason].
const answered = promise =>
  promise.then(reason => [true, reason], error => [false, String(error?.message ?? error)])

export class Party {
  constructor(url, secret = generateSecretKey()) {
    this.url = url
    this.secret = secret
    this.pubkey = getPublicKey(secret)
  }

  static async connected(url, secret) {
    const party = new Party(url, secret)
    party.relay = await within(Relay.connect(url), 'connect')
    // a busy machine is not what is tested here
    party.relay.publishTimeout = 20_000
    return party
  }

  static async authenticated(url, secret) {
    const party = await Party.connected(url, secret)
    await party.authenticate()
    return party
  }

  sign(kind, content = '', tags = [], created_at = seconds()) {
    return finalizeEvent({ kind, content, tags, created_at }, this.secret)
  }

  async authenticate() {
    while (!this.relay.challenge) await new Promise(resolve => setTimeout(resolve, 5))
    return answered(this.relay.auth(async template => finalizeEvent(template, this.secret)))
  }

  publish(event) {
    return answered(this.relay.publish(event))
  }

  // A subscription that stays open. What nostr-tools itself finds wrong with an event is kept, too.
  watch(...filters) {
    const watched = { events: [], invalid: [] }
    watched.eose = new Promise(resolve => {
      watched.subscription = this.relay.subscribe(filters, {
        eoseTimeout: 60_000,
        onevent: event => watched.events.push(event),
        oninvalidevent: event => watched.invalid.push(event),
        oneose: resolve,
        onclose: reason => {
          watched.closed ??= reason
          resolve()
        },
      })
    })
    watched.close = () => watched.subscription.close()
    return watched
  }

  // The stored events that match, or why the relay closed the request.
  async ask(...filters) {
    const watched = this.watch(...filters)
    await within(watched.eose, 'EOSE')
    const { events, invalid, closed } = watched
    watched.close()
    if (invalid.length > 0) throw new Error(`invalid: ${JSON.stringify(invalid)}`)
    return { events, closed }
  }

  async count(...filters) {
    return this.relay.countWithHLL(filters, {}).catch(error => ({ closed: String(error.message) }))
  }

  close() {
    this.relay.close()
  }
}
