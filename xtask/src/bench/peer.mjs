// A program that has sandbox-runtime as its library, as Claude Code does: started once,
// one command for each line that it reads.
import { spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'

const [library, settings] = process.argv.slice(2)
const { SandboxManager } = await import(library)
await SandboxManager.initialize(JSON.parse(readFileSync(settings, 'utf8')))
console.log('initialised')
for await (const command of createInterface({ input: process.stdin })) {
  const wrapped = await SandboxManager.wrapWithSandbox(command)
  const child = spawn(wrapped, { shell: true, stdio: ['ignore', 'inherit', 'inherit'] })
  await new Promise((ended) => child.once('close', ended))
  SandboxManager.cleanupAfterCommand()
}
await SandboxManager.reset()
