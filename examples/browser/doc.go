// Package browser holds the test of the example: a real browser logs in on the page. Another one holds what pages may call over
// HTTP. They run in make browser only, which prepares the browser and the page's library.
package browser
