import { defineConfig } from "vite";

// Relative addresses: the pages work below any path that a proxy puts before them. No inlined asset, no
// preload polyfill: both would be inline code or data, which the content security policy forbids.
export default defineConfig({
  base: "./",
  build: {
    target: "es2022",
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
  },
});
