// Joining and leaving a relay that has members (NIP-43).

import { fetchRelayInformation } from 'nostr-tools/nip11'
import { Party } from './party.mjs'

export async function membership(url, scene) {
  const [first, second, third] = [
    await Party.authenticated(url), await Party.authenticated(url), await Party.authenticated(url)]
  const { self } = await fetchRelayInformation(url)
  const note = party => party.publish(party.sign(1, `hello from ${party.pubkey}`))
  const join = (party, ...tags) => party.publish(party.sign(28934, '', [['-'], ...tags]))
  const listed = async party => {
    const { events } = await first.ask({ kinds: [13534], authors: [self] })
    return events.some(event => event.tags.some(([name, key]) => name === 'member' && key === party.pubkey))
  }
  const invite = async party => {
    const { events, closed } = await party.ask({ kinds: [28935], authors: [self] })
    return closed ? { closed } : events.map(event => event.tags.find(([name]) => name === 'claim')?.[1])
  }

  scene.observe('note of a stranger', await note(first))
  scene.observe('invite for a stranger', await invite(first))
  scene.observe('join with a wrong code', await join(first, ['claim', 'sesame']))
  scene.observe('join', await join(first, ['claim', scene.properties.code]))
  scene.observe('join again', await join(first, ['claim', scene.properties.code], ['t', 'again']))
  scene.observe('listed', await listed(first))
  scene.observe('note of a member', await note(first))

  const codes = await invite(first)
  scene.observe('invites', codes.length)
  scene.observe('join by invite', await join(second, ['claim', codes[0]]))
  scene.observe('join by a used invite', await join(third, ['claim', codes[0]]))
  scene.observe('another invite differs', (await invite(first))[0] !== codes[0])
  scene.observe('note of who was invited', await note(second))

  const added = await first.ask({ kinds: [8000], authors: [self], '#p': [second.pubkey] })
  scene.observe('announced', added.events.length)
  scene.observe('leave', await second.publish(second.sign(28936, '', [['-']])))
  scene.observe('listed after that', await listed(second))
  scene.observe('note of who has left', await second.publish(second.sign(1, 'one more')))
}
