// How a client's program plays scenarios and tells what it saw.
//
// It prints one JSON line for each observation, {scenario, what, value}, and one when a scenario
// broke off, {scenario, error}. It judges nothing: what should have been seen is written down once,
// for all clients, beside the tests.

const DEADLINE = 45_000

const print = line => process.stdout.write(JSON.stringify(line) + '\n')

export const pause = milliseconds => new Promise(resolve => setTimeout(resolve, milliseconds))

export const seconds = () => Math.floor(Date.now() / 1000)

export function within(promise, what, milliseconds = DEADLINE) {
  let timer
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: nothing in time`)), milliseconds)
  })
  return Promise.race([promise, late]).finally(() => clearTimeout(timer))
}

// Return once `condition` is true, or after the deadline: what is missing then is for the judge.
export async function until(condition, milliseconds = 20_000) {
  const end = Date.now() + milliseconds
  while (!condition() && Date.now() < end) await pause(5)
}

// One scenario's stage: events have names here, so that observations can be compared.
export class Scene {
  #names = new Map()

  constructor(scenario, properties) {
    this.scenario = scenario
    this.properties = properties
  }

  called(name, event) {
    this.#names.set(event.id, name)
    return event
  }

  names(events) {
    return events.map(event => this.#names.get(event.id) ?? `unknown: ${JSON.stringify(event)}`)
  }

  // An answer to a request: the names of its events, or why it was closed.
  answer({ events, closed }) {
    return closed === undefined ? this.names(events) : { closed }
  }

  observe(what, value) {
    print({ scenario: this.scenario, what, value: value ?? null })
  }
}

// Play the scenarios that the command line names, all at once; each has connections of its own.
// Usage: node PROGRAM URL PROPERTIES SCENARIO…, with the properties as JSON.
export async function play(scenarios) {
  const [url, properties, ...wanted] = process.argv.slice(2)
  await Promise.all(wanted.map(async name => {
    const scene = new Scene(name, JSON.parse(properties))
    try {
      await within(scenarios[name](url, scene), name)
    } catch (error) {
      print({ scenario: name, error: String(error?.stack ?? error) })
    }
  }))
  // clients keep timers that nobody can stop
  process.stdout.write('', () => process.exit(0))
}
