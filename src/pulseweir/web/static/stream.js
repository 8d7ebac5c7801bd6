// One live stream for all the tabs of a browser: the tab with the lock follows it and tells the others.
const KINDS = ["board", "live", "tile", "alerts", "gone", "summary", "heartbeat", "signed-out"];
const PULSE_MILLISECONDS = 3000;
const LOST_MILLISECONDS = 12000;

/** What a tab that comes later must be told first. */
class Known {
  constructor() {
    this.rows = new Map();
    this.summary = null;
    this.heardAt = 0;
  }

  take(kind, facts) {
    if (kind === "board") this.rows.clear();
    for (const row of facts.rows ?? []) this.rows.set(row.patient_id, row);
    for (const patient of facts.patients_gone ?? []) this.rows.delete(patient);
    if (kind === "board" || kind === "summary") this.summary = facts;
    this.heardAt = performance.now();
    this.newest = facts;
  }

  board() {
    if (!this.summary) return null;
    const elapsed = (performance.now() - this.heardAt) * 1000 * this.newest.speed;
    const facts = { ...this.summary, server_time: this.newest.server_time + elapsed, speed: this.newest.speed };
    return { kind: "board", facts: { ...facts, rows: [...this.rows.values()] } };
  }
}

/** Follows the server; the browser reconnects by itself, and the server sends everything again. */
function open(known, tell) {
  const source = new EventSource("/events");
  for (const kind of KINDS) {
    source.addEventListener(kind, (event) => {
      const facts = JSON.parse(event.data);
      known.take(kind, facts);
      tell({ kind, facts });
      if (kind === "signed-out") source.close();
    });
  }
  source.onerror = () => tell({ kind: source.readyState === EventSource.CLOSED ? "closed" : "broken" });
  return source;
}

/**
 * Be told of every event of the stream, by this tab's own connection or by another tab's.
 * @param {string} session whose stream it is: tabs of another session have one of their own
 * @param {(message: {kind: string, facts?: any}) => void} take
 */
export function join(session, take) {
  const name = `pulseweir-${session}`;
  if (!navigator.locks || !window.BroadcastChannel) {
    open(new Known(), take);
    return;
  }
  const channel = new BroadcastChannel(name);
  const known = new Known();
  let heardAt = performance.now();
  let leads = false;
  const tell = (message) => {
    channel.postMessage(message);
    take(message);
  };
  channel.onmessage = ({ data }) => {
    heardAt = performance.now();
    if (data.kind === "hello") {
      const board = leads && known.board();
      if (board) channel.postMessage(board);
    } else if (data.kind !== "pulse" && !leads) take(data);
  };
  function lead() {
    leads = true;
    const source = open(known, tell);
    const pulse = setInterval(() => channel.postMessage({ kind: "pulse" }), PULSE_MILLISECONDS);
    return {
      held: new Promise(() => {}),
      stop() {
        leads = false;
        source.close();
        clearInterval(pulse);
      },
    };
  }
  async function queue(options) {
    let leading = null;
    try {
      await navigator.locks.request(name, options, () => {
        leading = lead();
        return leading.held;
      });
    } catch {
      // Another tab took the lock because this one did not answer: it follows from here on.
      leading?.stop();
      heardAt = performance.now();
      queue({});
    }
  }
  queue({});
  channel.postMessage({ kind: "hello" });
  setInterval(() => {
    const isLost = !leads && !document.hidden && performance.now() - heardAt > LOST_MILLISECONDS;
    if (!isLost) return;
    heardAt = performance.now() + Math.random() * PULSE_MILLISECONDS;
    queue({ steal: true });
  }, 1000);
}
