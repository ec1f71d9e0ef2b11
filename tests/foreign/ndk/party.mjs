// Somebody with a key and a connection, as NDK makes them: an NDK of their own.
//
// NDK keeps what an OK says to itself when it is true, and waits for an authentication that may
// never come when it begins with `auth-required:`. So the answers are also read as they come in
// (`netDebug`, NDK's own means to watch its traffic).

import NDK, { NDKEvent, NDKPrivateKeySigner, NDKRelayAuthPolicies, NDKSubscriptionCacheUsage } from '@nostr-dev-kit/ndk'
import { seconds, until, within } from '../scene.mjs'

const PUBLISH_TIMEOUT = 20_000

export class Party {
  answers = new Map()

  constructor(url, { secret, options = {} } = {}) {
    this.url = url
    this.signer = secret ? new NDKPrivateKeySigner(secret) : NDKPrivateKeySigner.generate()
    this.pubkey = this.signer.pubkey
    this.ndk = new NDK({
      explicitRelayUrls: [url],
      enableOutboxModel: false,
      netDebug: (message, relay, direction) => direction === 'recv' && this.#hear(message),
      ...options,
    })
  }

  #hear(message) {
    const [type, id, accepted, reason] = JSON.parse(message)
    if (type === 'OK') this.answers.set(id, [accepted, reason])
  }

  static async connected(url, options) {
    const party = new Party(url, options)
    await within(party.ndk.connect(), 'connect')
    party.relay = [...party.ndk.pool.relays.values()][0]
    await until(() => party.relay.connected)
    return party
  }

  // NDK's own policy answers the challenge as soon as it is there.
  static async authenticated(url, { secret } = {}) {
    const party = new Party(url, { secret })
    party.ndk.relayAuthDefaultPolicy = NDKRelayAuthPolicies.signIn({ ndk: party.ndk, signer: party.signer })
    const authenticated = new Promise(resolve => {
      party.ndk.pool.on('relay:authed', resolve)
    })
    await within(party.ndk.connect(), 'connect')
    await within(authenticated, 'authed')
    party.relay = [...party.ndk.pool.relays.values()][0]
    return party
  }

  async sign(kind, content = '', tags = [], created_at = seconds()) {
    const event = new NDKEvent(this.ndk, { kind, content, tags, created_at })
    await event.sign(this.signer)
    return event
  }

  // The OK as [accepted, reason]. The event may be another party's.
  async publish(signed) {
    const event = new NDKEvent(this.ndk, signed.rawEvent())
    this.answers.delete(event.id)
    const published = event.publish(undefined, PUBLISH_TIMEOUT).then(() => true, error => error)
    await Promise.race([published, until(() => this.answers.has(event.id), PUBLISH_TIMEOUT)])
    const answer = this.answers.get(event.id)
    if (answer === undefined) throw new Error(`no answer to kind ${event.kind}: ${await published}`)
    if (answer[0] && (await published) !== true) throw new Error(`accepted, and yet ${await published}`)
    return answer
  }

  watch(...filters) {
    const watched = { events: [] }
    const subscription = this.ndk.subscribe(filters, {
      closeOnEose: false, groupable: false, cacheUsage: NDKSubscriptionCacheUsage.ONLY_RELAY,
    }, { onEvent: event => watched.events.push(event) })
    watched.eose = new Promise(resolve => {
      subscription.on('eose', resolve)
      subscription.on('closed', (relay, reason) => {
        watched.closed ??= reason
        resolve()
      })
    })
    watched.close = () => subscription.stop()
    return watched
  }

  async ask(...filters) {
    const watched = this.watch(...filters)
    await within(watched.eose, 'EOSE')
    watched.close()
    return watched
  }

  count(...filters) {
    return this.ndk.count(filters)
  }
}
