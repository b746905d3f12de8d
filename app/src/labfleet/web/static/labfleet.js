// What the pages do beyond plain forms: local times, upload progress, a question before cancelling.
// Everything works without it, only less comfortably.
"use strict";

(() => {
  const here = new URL(document.currentScript.src);
  const full = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "long" });
  const clock = new Intl.DateTimeFormat(undefined, { timeStyle: "short" });
  const thisYear = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", hour: "numeric", minute: "2-digit" });
  const earlier = new Intl.DateTimeFormat(undefined, { dateStyle: "medium" });

  // As much of a time as one needs; the whole of it is in the title.
  function told(at) {
    const now = new Date();
    if (at.toDateString() === now.toDateString()) return `today, ${clock.format(at)}`;
    return (at.getFullYear() === now.getFullYear() ? thisYear : earlier).format(at);
  }

  function localTimes() {
    for (const element of document.querySelectorAll("time[datetime]:not([data-local])")) {
      const at = new Date(element.dateTime);
      element.dataset.local = "yes";
      element.title = full.format(at);
      element.textContent = told(at);
    }
  }

  function fail(form, text) {
    const place = form.querySelector("[data-upload-error]");
    if (place) {
      place.textContent = text;
      place.hidden = false;
    }
    for (const button of form.querySelectorAll("button")) button.disabled = false;
  }

  function upload(event) {
    const form = event.target;
    const files = [...form.querySelectorAll("input[type=file]")].some((input) => input.files.length);
    if (!files) return;
    event.preventDefault();
    const request = new XMLHttpRequest();
    const box = form.querySelector("[data-upload]");
    const bar = box.querySelector("progress");
    const text = box.querySelector("output");
    box.hidden = false;
    for (const button of form.querySelectorAll("button")) button.disabled = true;
    request.upload.addEventListener("progress", (step) => {
      if (!step.lengthComputable) return;
      bar.value = step.loaded / step.total;
      text.textContent = `${Math.floor((100 * step.loaded) / step.total)} %`;
    });
    request.addEventListener("error", () => fail(form, "The connection broke. Nothing was kept; try again."));
    request.addEventListener("load", () => {
      if (request.status < 400 && request.responseURL !== window.location.href) {
        window.location.assign(request.responseURL);
        return;
      }
      const page = new DOMParser().parseFromString(request.responseText, "text/html");
      const fresh = page.querySelector("main");
      if (fresh) {
        document.querySelector("main").replaceWith(fresh);
        window.scrollTo(0, 0);
        prepare();
      } else if (request.status < 400) {
        window.location.reload();
      } else {
        fail(form, `The upload failed (${request.status}).`);
      }
    });
    request.open("POST", event.submitter?.formAction || form.action);
    request.send(new FormData(form));
  }

  function added(element) {
    return new Promise((resolve, reject) => {
      element.addEventListener("load", resolve);
      element.addEventListener("error", () => reject(new Error("The plot could not be loaded.")));
      document.head.append(element);
    });
  }

  function script(name) {
    return added(Object.assign(document.createElement("script"), { src: new URL(name + here.search, here) }));
  }

  function style(name) {
    const href = new URL(name + here.search, here);
    return added(Object.assign(document.createElement("link"), { rel: "stylesheet", href }));
  }

  // What draws is fetched by the first page that has something to draw.
  let drawing;
  function plots() {
    for (const box of document.querySelectorAll("[data-series]:not([data-drawn])")) {
      box.dataset.drawn = "yes";
      drawing ??= Promise.all([
        script("vendor/uPlot-1.6.32.iife.min.js"),
        style("vendor/uPlot-1.6.32.min.css"),
        script("plots.js"),
      ]);
      drawing.then(() => window.labfleetPlot(box), (error) => { box.textContent = error.message; });
    }
  }

  // Files that were chosen are looked at before they are sent.
  let looking;
  function recognise(event) {
    const input = event.target;
    const place = input.closest(".field").querySelector(".recognised");
    looking ??= script("recognise.js");
    // Without it they are sent as they are, and the server looks.
    looking.then(() => window.labfleetRecognise(input, place), () => { looking = undefined; });
  }

  function prepare() {
    localTimes();
    plots();
    for (const input of document.querySelectorAll("input[type=file][data-recognise]")) {
      input.addEventListener("change", recognise);
    }
    for (const form of document.querySelectorAll("form[data-uploads]")) {
      form.addEventListener("submit", upload);
    }
  }

  // Files dropped anywhere in the box go to its input.
  for (const kind of ["dragover", "dragleave", "drop"]) {
    document.addEventListener(kind, (event) => {
      const box = event.target.closest?.(".drop");
      if (!box) return;
      box.classList.toggle("over", kind === "dragover");
      if (kind === "dragleave") return;
      event.preventDefault();
      if (kind === "drop" && event.dataTransfer.files.length) {
        const input = box.querySelector("input[type=file]");
        input.files = event.dataTransfer.files;
        input.dispatchEvent(new Event("change"));
      }
    });
  }
  // A page that nobody looks at asks for nothing.
  document.addEventListener("htmx:before:request", (event) => {
    if (document.hidden && event.target.closest("[hx-trigger^='every']")) event.preventDefault();
  });
  // A menu closes when one goes elsewhere.
  document.addEventListener("click", (event) => {
    for (const menu of document.querySelectorAll("details.who[open]")) {
      if (!menu.contains(event.target)) menu.open = false;
    }
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    for (const menu of document.querySelectorAll("details.who[open]")) menu.open = false;
  });
  document.addEventListener("submit", (event) => {
    const question = event.target.dataset.confirm;
    if (question && !window.confirm(question)) event.preventDefault();
  });
  new MutationObserver(() => { localTimes(); plots(); }).observe(document.documentElement, { childList: true, subtree: true });
  prepare();
})();
