import { svelte } from "@sveltejs/vite-plugin-svelte";
import { defineConfig } from "vite";

// `make web-dev`: the page comes from Vite, its calls go to a running server, whose address this is.
const server = process.env.STIGMER_CONSOLE_SERVER ?? "http://localhost:7234";

export default defineConfig({
  base: "/console/",
  plugins: [svelte()],
  build: {
    outDir: "../../backend/services/stigmer-server/src/stigmer_server/console_page",
    emptyOutDir: true,
    target: "es2022",
    // The server's policy lets nothing stand in the page itself.
    assetsInlineLimit: 0,
    modulePreload: false,
  },
  server: { proxy: { "/v1": { target: server } } },
});
