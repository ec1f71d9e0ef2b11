// Events of every class, stored and live.

import { pause, seconds, until } from '../scene.mjs'
import { Party } from './party.mjs'

const NOTES = 100

export async function notes(url, scene) {
  const [writer, reader] = await Promise.all([Party.connected(url), Party.connected(url)])
  const start = seconds() - 3_600
  const author = writer.pubkey
  const sign = async (name, kind, content, tags, age) =>
    scene.called(name, await writer.sign(kind, content, tags, start + age))

  const written = []
  for (let n = 0; n < NOTES; n++) {
    // two notes to a second, so that ties have to be ordered by id
    written.push(await sign(`note ${n}`, 1, `note ${n} “\u2028” \u0001 🤙`, [['t', 'foreign']], n >> 1))
  }
  const live = reader.watch({ authors: [author], kinds: [1] })
  await live.eose
  const answers = await Promise.all(written.map(note => writer.publish(note)))
  scene.observe('accepted', answers.filter(([accepted]) => accepted).length)
  scene.observe('written', written.map((note, n) => [`note ${n}`, note.created_at, note.id]))
  await until(() => live.events.length >= NOTES)
  await pause(100)
  live.close()
  scene.observe('live', scene.names(live.events))

  const stored = await reader.ask({ authors: [author], kinds: [1] })
  scene.observe('stored', scene.answer(stored))
  scene.observe('verified', stored.events.filter(event => event.verifySignature(false)).length)
  scene.observe('limited', scene.answer(await reader.ask({ authors: [author], limit: 7 })))
  scene.observe('counted', (await reader.count({ authors: [author], kinds: [1] })).count)

  scene.observe('again', await writer.publish(written[0]))
  const forged = await writer.sign(1, 'true')
  forged.content = 'false'
  scene.observe('forged', await writer.publish(forged))

  for (const age of [1, 3, 2]) {
    await writer.publish(await sign(`profile ${age}`, 0, `{"name":"${age}"}`, [], age))
  }
  scene.observe('replaceable', scene.answer(await reader.ask({ authors: [author], kinds: [0] })))

  for (const [d, age] of [['a', 1], ['b', 1], ['a', 2]]) {
    await writer.publish(await sign(`article ${d} ${age}`, 30023, d, [['d', d]], age))
  }
  for (const d of ['a', 'b']) {
    const wanted = { authors: [author], kinds: [30023], '#d': [d] }
    scene.observe(`addressable ${d}`, scene.answer(await reader.ask(wanted)))
  }

  const passing = reader.watch({ authors: [author], kinds: [20001] })
  await passing.eose
  const ephemeral = await sign('ephemeral', 20001, 'now', [], 0)
  await writer.publish(ephemeral)
  await until(() => passing.events.length > 0)
  passing.close()
  scene.observe('ephemeral, live', scene.names(passing.events))
  scene.observe('ephemeral, stored', scene.answer(await reader.ask({ ids: [ephemeral.id] })))
}
