/* Browsers start no workers from file:// pages. Run the search worker in a hidden frame there, so that search also works
   if the site is opened as files. Material for MkDocs loads a script of this name for that purpose. */
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super()
      this.ready = new Promise(started => {
        const frame = document.createElement("iframe")
        frame.hidden = true
        frame.onload = () => {
          const inner = frame.contentWindow
          inner.postMessage = data => this.dispatchEvent(new MessageEvent("message", { data }))
          inner.importScripts = (...urls) => Promise.all(urls.map(src => load(inner.document, src)))
          load(inner.document, url).then(() => started(inner))
        }
        document.body.append(frame)
      })
      this.addEventListener("message", event => this.onmessage?.(event))
    }
    postMessage(data) {
      this.ready.then(inner => inner.dispatchEvent(new MessageEvent("message", { data })))
    }
    terminate() {}
  }
  const load = (page, src) => new Promise((loaded, failed) => {
    const script = page.createElement("script")
    Object.assign(script, { src: new URL(src, location.href).href, onload: loaded, onerror: failed })
    page.head.append(script)
  })
}
