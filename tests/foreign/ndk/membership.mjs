// Joining and leaving a relay that has members (NIP-43).

import { Party } from './party.mjs'

export async function membership(url, scene) {
  const party = await Party.authenticated(url)
  const write = async (kind, content, tags = []) => party.publish(await party.sign(kind, content, tags))
  const join = code => write(28934, '', [['-'], ['claim', code]])
  const { self } = await party.relay.fetchInfo()
  const listed = async () => {
    const { events } = await party.ask({ kinds: [13534], authors: [self] })
    return events.some(event => event.getMatchingTags('member').some(([, key]) => key === party.pubkey))
  }

  scene.observe('note of a stranger', await write(1, 'let me in'))
  scene.observe('join with a wrong code', await join('sesame'))
  scene.observe('join', await join(scene.properties.code))
  scene.observe('listed', await listed())
  scene.observe('note of a member', await write(1, 'here I am'))
  scene.observe('leave', await write(28936, '', [['-']]))
  scene.observe('listed after that', await listed())
  scene.observe('note of who has left', await write(1, 'one more'))
}
