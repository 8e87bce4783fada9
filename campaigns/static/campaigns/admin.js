"use strict";

// Buttons that open a dialog, and the way back.
document.addEventListener("click", (event) => {
  const opener = event.target.closest("[data-opens]");
  if (opener) document.getElementById(opener.dataset.opens).showModal();
  if (event.target.closest("[data-closes]")) event.target.closest("dialog").close();
});

// What was typed into a dialog and refused stands in it again, with the reasons.
document.addEventListener("DOMContentLoaded", () => document.querySelector("dialog[data-refused]")?.showModal());

// Somebody signed out elsewhere: what comes back is the login page, and belongs on a page of its own.
document.addEventListener("htmx:beforeSwap", (event) => {
  if (event.detail.xhr.responseURL.includes("/login/")) {
    event.detail.shouldSwap = false;
    location.reload();
  }
});

// The preview of a template follows what is typed.
document.addEventListener("DOMContentLoaded", () => {
  const panel = document.querySelector("[data-preview]");
  if (!panel) return;
  const form = panel.querySelector("form");
  const images = panel.querySelector("[data-images]");
  let width = "760";
  let timer;

  const refresh = async () => {
    for (const name of ["subject", "preheader", "html", "text"]) {
      const typed = document.querySelector(`#emailtemplate_form [name="${name}"]`);
      if (typed) form.elements[name].value = typed.value;
    }
    const inline = document.querySelector('#emailtemplate_form [name="inline_css"]');
    if (inline) form.elements.inline_css.checked = inline.checked;
    const body = new FormData(form);
    // a new frame each time: posting into the old one would fill the browser's history
    const old = panel.querySelector("iframe");
    const frame = old.cloneNode();
    frame.removeAttribute("src");
    frame.style.width = `${width}px`;
    old.replaceWith(frame);
    form.elements.images?.remove();
    if (images.checked) form.insertAdjacentHTML("beforeend", '<input type="hidden" name="images" value="1">');
    form.submit();
    const answer = await fetch(form.dataset.summaryUrl, { method: "POST", body, credentials: "same-origin" });
    if (answer.ok) panel.querySelector("[data-summary]").innerHTML = await answer.text();
  };
  const show = (wanted) => {
    width = wanted;
    panel.querySelector("iframe").style.width = `${wanted}px`;
    for (const button of panel.querySelectorAll("[data-width]")) {
      button.setAttribute("aria-pressed", String(button.dataset.width === wanted));
    }
  };

  for (const button of panel.querySelectorAll("[data-width]")) {
    button.addEventListener("click", () => show(button.dataset.width));
  }
  images.addEventListener("change", refresh);
  document.getElementById("emailtemplate_form")?.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(refresh, 400);
  });
  show(width);
  refresh();
});
