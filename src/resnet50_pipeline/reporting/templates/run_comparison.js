"use strict";
// Fills the sections of a page that compares two runs.

unpack(document.getElementById("report-data").textContent).then(({ classes, images, curves }) => {
  const browser = makeImageBrowser(document.getElementById("image-browser"), classes, images);
  browser.show({ side: "changed" });
  if (curves) drawCurves(document.getElementById("curves"), curves, runColor);
  for (const link of document.querySelectorAll("[data-side]")) {
    link.addEventListener("click", () => browser.show({ side: link.dataset.side }, document.getElementById("result")));
  }
  document.documentElement.dataset.ready = "yes";
});
