// Package browser holds the test of the example: a real browser logs in on the page. It runs in make browser only,
// which prepares the browser and the page's library.
package browser
