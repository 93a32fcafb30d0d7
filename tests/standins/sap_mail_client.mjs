// Connects to the POP3 server of an on-premise destination, with the part of SAP's own mail client
// that talks to the Connectivity Proxy.
//
//     node sap_mail_client.mjs NAME OPTIONS
//
// For OPTIONS and the service keys, including that of the connectivity service, see sap_client.mjs.
// Prints the server's greeting as JSON.

import { getDestination } from '@sap-cloud-sdk/connectivity';
import { buildSocksProxy } from '@sap-cloud-sdk/mail-client/internal.js';
import { setGlobalLogLevel } from '@sap-cloud-sdk/util';
import { SocksClient } from 'socks';
import './test_names.mjs';

setGlobalLogLevel('error');
const [destinationName, options] = process.argv.slice(2);
try {
  const mail = await getDestination({ destinationName, ...JSON.parse(options) });
  const { 'mail.pop3.host': host, 'mail.pop3.port': port } = mail.originalProperties;
  const { socket } = await SocksClient.createConnection({
    proxy: buildSocksProxy(mail),
    command: 'connect',
    destination: { host, port: parseInt(port) },
  });
  socket.once('data', (greeting) => {
    console.log(JSON.stringify(greeting.toString()));
    socket.destroy();
  });
  socket.resume();
} catch (error) {
  console.error(error);
  process.exit(1);
}
