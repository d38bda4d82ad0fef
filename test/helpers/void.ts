/**
 * Machines that vanish: no reset, no good-bye, what is sent to them is lost on the way. Any address of 127.0.0.0/8 can be one;
 * the kernel is told to send what is for it down a cable nobody listens at. Needs root, or sudo without a password.
 */
import { spawnSync } from "node:child_process";
import { openGuardian } from "./guardian.ts";

export type Void = {
  /** From now nothing reaches this address, and nothing leaves it. */
  swallows(address: string): void;
  returns(address: string): void;
  close(): Promise<void>;
};

const NOBODY = "02:00:00:00:00:01";

/** @throws Error when this machine does not let its routes be changed. */
export function openVoid(): Void {
  // At most 15 characters; one for each process.
  const cable = `void${process.pid}`;
  const prefix = process.getuid?.() === 0 ? [] : ["sudo", "-n"];
  const run = (...command: string[]) => {
    const [program, ...args] = [...prefix, ...command];
    const { status, stderr, error } = spawnSync(program!, args, { encoding: "utf8", timeout: 5_000 });
    if (status !== 0) {
      throw new Error(
        `this test changes routes and needs iproute2 and root, or sudo without a password: ${error?.message ?? stderr.trim()}`,
      );
    }
  };
  run("ip", "link", "add", cable, "type", "veth", "peer", "name", `${cable}x`);
  // With the device go its routes.
  const guardian = openGuardian(`${prefix.join(" ")} ip link del "$1"`, [cable]);
  run("ip", "link", "set", cable, "up");
  run("ip", "link", "set", `${cable}x`, "up");
  run("sysctl", "-q", "-w", `net.ipv4.conf.${cable}.route_localnet=1`);
  return {
    swallows(address) {
      run("ip", "neigh", "replace", address, "lladdr", NOBODY, "dev", cable, "nud", "permanent");
      run("ip", "route", "add", `${address}/32`, "dev", cable, "table", "local");
    },
    returns: (address) => run("ip", "route", "del", `${address}/32`, "dev", cable, "table", "local"),
    close: () => guardian.close(),
  };
}
