/**
 * One direction of a connection: what is sent arrives later, in order, each message after a delay of its own. What is
 * on its way when the receiver dies is lost; what a dead sender had sent may still arrive.
 */
import type { SeededRandom, SimulatedTime } from "./simulated-time.ts";

export interface LinkDelays {
  readonly usualMs: number;
  /** One message in twenty is so slow. */
  readonly slowMs: number;
}

export class SimulatedLink {
  readonly #time: SimulatedTime;
  readonly #random: SeededRandom;
  readonly #delays: LinkDelays;
  #lastMs = 0;
  /** Until then nothing arrives: the network is cut. */
  #blockedUntilMs = 0;

  constructor(time: SimulatedTime, random: SeededRandom, delays: LinkDelays) {
    this.#time = time;
    this.#random = random;
    this.#delays = delays;
  }

  send(arrive: () => void): void {
    const { usualMs, slowMs } = this.#delays;
    const delayMs = this.#random.next() * (this.#random.chance(0.05) ? slowMs : usualMs);
    this.#lastMs = Math.max(this.#lastMs, this.#blockedUntilMs, this.#time.nowMs() + delayMs);
    this.#time.at(this.#lastMs - this.#time.nowMs(), arrive);
  }

  block(durationMs: number): void {
    this.#blockedUntilMs = this.#time.nowMs() + durationMs;
  }
}
